//! Chat templates that would run, nest or grow for ever.

/// Name and source.
pub fn attacks() -> Vec<(&'static str, String)> {
    let repeat = |set: &str| {
        format!("{{% set ns = namespace(s='x', l=[1]) %}}{{% for i in range(60) %}}{set}{{% endfor %}}{{{{ ns.s }}}}")
    };
    let deep = |set: &str| {
        format!("{{% set ns = namespace(l=1) %}}{{% for i in range(9000) %}}{set}{{% endfor %}}{{{{ ns.l }}}}")
    };
    let of = |name, source: &str| (name, source.to_owned());
    vec![
        of("a loop in a loop", "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"),
        of("a gigabyte in a loop", "{% for a in range(100000) %}{{ 'x' * 10000 }}{% endfor %}"),
        of("a gigabyte at once", "{{ 'x' * 1073741824 }}"),
        of("a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        of("a macro that calls itself twice", "{% macro f(n) %}{{ f(n) ~ f(n) }}{% endmacro %}{{ f(1) }}"),
        of("a recursive loop", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        ("a text doubled by ~", repeat("{% set ns.s = ns.s ~ ns.s %}")),
        ("a text doubled by +", repeat("{% set ns.s = ns.s + ns.s %}")),
        ("a text doubled by *", repeat("{% set ns.s = ns.s * 2 %}")),
        ("a text doubled by replace", repeat("{% set ns.s = ns.s|replace('x', 'xx') %}")),
        ("a text doubled by a method", repeat("{% set ns.s = ns.s.replace('x', 'xx') %}")),
        ("a text doubled by join", repeat("{% set ns.s = [ns.s, ns.s]|join %}")),
        ("a text doubled by format", repeat("{% set ns.s = '{0}{0}'.format(ns.s) %}")),
        ("a text doubled by capture", repeat("{% set b %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = b %}")),
        ("a list doubled", repeat("{% set ns.l = ns.l + ns.l %}")),
        ("a list that holds itself twice", repeat("{% set ns.l = [ns.l, ns.l] %}")),
        ("a list nested 9,000 deep", deep("{% set ns.l = [ns.l] %}")),
        ("a namespace that holds itself", deep("{% set ns.l = [ns] %}")),
        of("a namespace shown in itself", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}"),
        of("a width of a billion", "{{ '{:>999999999}'.format(1) }}"),
        of("an indent of a billion", "{{ ('a\\n' * 1000)|indent(1000000000) }}"),
        of("a file of the system", "{% include '/etc/passwd' %}"),
        ("parentheses 5,000 deep", format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000))),
        ("two megabytes of template", "x".repeat(2 << 20)),
    ]
}
