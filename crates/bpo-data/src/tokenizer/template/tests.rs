use super::*;

fn render(source: &str, messages: &[Message]) -> Result<String, Error> {
    let names = [Some("<s>".to_owned()), Some("</s>".to_owned()), None];
    Template::new(source, &names).render(messages, true)
}

fn hello() -> Vec<Message> {
    vec![Message::new("user", "hello")]
}

#[track_caller]
fn renders(source: &str, expected: &str) {
    assert_eq!(render(source, &hello()).unwrap(), expected);
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    renders("{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n", "hello\n");
    renders("a\n\n", "a\n");
}

#[test]
fn tokens_and_flags_are_defined() {
    renders("{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}", "<s></s>");
    renders("{{ add_generation_prompt }}", "True");
    renders("{% if tools is defined and tools is none %}none{% endif %}", "none");
}

#[test]
fn python_methods_and_namespaces_work() {
    renders("{{ messages[0]['content'].strip().upper().split('L')[0] }}", "HE");
    renders("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}", "role=user;content=hello;");
    renders("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "1");
    renders("{% for m in messages[::-1] %}{% if loop.first %}{{ m.role }}{% break %}{% endif %}{% endfor %}", "user");
}

#[test]
fn json_is_written_as_python_does() {
    renders("{{ messages | tojson }}", r#"[{"role": "user", "content": "hello"}]"#);
    renders("{{ {'a': [1, 2], 'b': '<é>'} | tojson }}", r#"{"a": [1, 2], "b": "<é>"}"#);
    renders("{{ [1, {'a': []}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]");
}

#[test]
fn the_date_is_always_the_same() {
    renders("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024");
}

#[test]
fn exceptions_of_the_template_are_errors() {
    let error = render("{{ raise_exception('roles must alternate') }}", &hello()).unwrap_err();
    assert!(error.to_string().contains("roles must alternate"));
}

#[test]
fn generation_tags_render_nothing() {
    renders("a{%- generation -%} {{ messages[0].content }} {%- endgeneration %}b", "ahellob");
    renders("{% generation %}x{% endgeneration %}", "x");
}

#[test]
fn contents_are_never_escaped_or_interpreted() {
    let messages = [Message::new("user", "<b>&{{ bos_token }}{% if %}")];
    assert_eq!(render("{{ messages[0].content }}", &messages).unwrap(), "<b>&{{ bos_token }}{% if %}");
}

#[test]
fn long_conversations_are_within_the_limits() {
    let messages: Vec<Message> = (0..500).map(|_| Message::new("user", "x".repeat(10_000))).collect();
    let source = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}";
    assert_eq!(render(source, &messages).unwrap().len(), 500 * 10_004);
}

#[test]
fn operators_and_filters_that_are_counted_do_what_they_did() {
    renders("{{ 2 * 3 }}{{ 2 * 1.5 }}{{ 'ab' * 2 }}{{ 2 * 'ab' }}{{ [1, 'a'] * 2 }}", "63.0abababab[1, 'a', 1, 'a']");
    renders("{{ (1 + 2) ~ 'x' ~ (['a'] + ['b']) }}", "3x['a', 'b']");
    renders("{{ 'a-b'|replace('-', '+') }}{{ 'aa'.replace('a', 'b', 1) }}{{ 'a1a'|replace(1, 2) }}", "a+bbaa2a");
    renders("{{ [1, 'a']|join(', ') }}{{ 'abc'|join('-') }}{{ '-'.join(['x', 'y']) }}{{ none|join }}", "1, aa-b-cx-y");
    renders("{{ 'a\nb'|indent(2) }}|{{ 'a\nb'|indent(width=1, first=true) }}", "a\n  b| a\n b");
    renders("{{ '{}-{:>3}'.format('a', 7) }}", "a-  7");
    renders("{{ messages[0].content[1:3] }}{{ {'a': 1}.items()|list }}{{ dict(b=2) }}", "el[('a', 1)]{'b': 2}");
    renders("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(1) ~ twice('a') }}", "11aa");
    renders("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}", "<in>");
    renders(
        "{% set s %}a{% if true %}b{% endif %}{% endset %}{{ s }}{% filter upper %}c{{ s }}{% endfilter %}",
        "abCAB",
    );
    renders("{% for a in [[1, [2]], 3] recursive %}{{ loop(a) if a is iterable else a }}{% endfor %}", "123");
    renders(
        "{% with a = 1 + 1, b = 'c' %}{{ a }}{{ b }}{% endwith %}{{ 1 if 2 > 1 else 0 }}{{ not true }}",
        "2c1False",
    );
    renders(
        "{% for x in range(6) if x % 2 %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% else %}n{% endfor %}",
        "13",
    );
}

#[test]
fn templates_that_double_what_they_hold_are_typed_errors_within_a_second() {
    let sources = [
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s * 9 %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s|replace('x', 'xx') %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set b %}{{ ns.s }}{{ ns.s }}{% endset %}\
         {% set ns.s = b %}{% endfor %}",
        "{% macro f(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='x') %}{% for i in range(60) %}\
         {% set ns.s = f(ns.s) %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(9000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l=1) %}{% for i in range(9000) %}{% set ns.l = dict(a=ns.l) %}{% endfor %}",
        "{% set ns = namespace(l=1) %}{% for i in range(9000) %}{% set ns.l = namespace(a=ns.l) %}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{% set ns.b = ns.a ~ '' %}",
        "{% set s = 'x' * 1000000 %}{% set ns = namespace(l=[]) %}{% for i in range(9000) %}\
         {% set ns.l = ns.l + [s[1:]] %}{% endfor %}",
        "{% set s = 'x' * 1000000 %}{% set l = [s] * 1000000 %}{{ l }}",
        "{% set s = 'x' * 1000000 %}{{ s|replace('x', s) }}",
        "{{ ('\n' * 1000000)|indent(1000000) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 999999999) }}",
        "{{ 'x'|format }}{{ [1]|batch(1000000000, 'x') }}",
        "{% set l = range(100000)|list %}{% set ns = namespace(l=[]) %}{% for i in range(9000) %}\
         {% set ns.l = [ns.l, l|sort] %}{% endfor %}",
        "{{ [[[[[[[[[[[[1]]]]]]]]]]]]|tojson(indent=999999999) ~ 'x' * 9999999 }}",
        "{% set count = 1 %}{% macro c(x) %}{{ x }}{% endmacro %}{{ 'x'|bpo:count }}",
    ];
    for source in sources {
        let start = std::time::Instant::now();
        let shown: String = source.chars().take(90).collect();
        let error = render(source, &hello()).expect_err(&shown);
        assert!(matches!(&error, Error::ChatTemplate(m) if m.len() < 2_000), "{shown}: {error}");
        assert!(start.elapsed().as_secs_f64() < 1.0, "{shown}: {:?}", start.elapsed());
    }
}

#[test]
fn hostile_templates_are_typed_errors_within_a_second() {
    let big = "x".repeat(MAX_SOURCE + 1);
    let nested = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let sources = [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
        "{{ 'x' * 100000000 }}",
        "{{ 'x' * 1000000000000 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n) ~ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ range(1000000000000) | list }}",
        "{% include 'chat' %}",
        "{% extends 'chat' %}",
        "{% import 'chat' as x %}{{ x }}",
        "{% include '/etc/passwd' %}",
        "{{ messages.nothing.at.all }}",
        "{% if %}",
        "{{",
        "{% for %}{% endfor",
        "{{ ''.__class__.__mro__ }}",
        "{{ unknown_function() }}",
        &format!("{{{{ {nested} }}}}"),
        &big,
    ];
    for source in sources {
        let start = std::time::Instant::now();
        let shown: String = source.chars().take(80).collect();
        let error = render(source, &hello()).expect_err(&shown);
        assert!(matches!(&error, Error::ChatTemplate(m) if m.len() < 2_000), "{shown}: {error}");
        assert!(start.elapsed().as_secs_f64() < 1.0, "{shown}: {:?}", start.elapsed());
    }
}
