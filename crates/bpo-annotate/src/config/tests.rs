use super::*;
use crate::{Comparison, Error, Item, Scorer, Verdict, scorer_from};

struct Given;

impl Parts for Given {
    fn embedded_lexicon(&self) -> &'static [u8] {
        b"good\t2.0\nbad\t-2.0\n"
    }

    fn reward_model(&mut self, folder: &Path) -> Result<Box<dyn Scorer + Send>, Error> {
        let bytes = |items: &[Item]| Ok(items.iter().map(|i| i.response.len() as f64).collect());
        Ok(Box::new(scorer_from(folder.display().to_string(), bytes)))
    }
}

/// Reads the value of `annotator` from TOML.
fn read(toml: &str) -> Result<AnnotatorConfig, String> {
    #[derive(Debug, Deserialize)]
    struct Recipe {
        annotator: AnnotatorConfig,
    }
    let recipe: Result<Recipe, _> = toml::from_str(&format!("annotator = {toml}"));
    recipe.map(|recipe| recipe.annotator).map_err(|error| error.to_string())
}

fn verdict(toml: &str, first: &str, second: &str) -> Verdict {
    let mut annotator = read(toml).unwrap().build(&mut Given).unwrap();
    let pair = Comparison { prompt: "p".into(), first: first.into(), second: second.into() };
    annotator.compare(&[pair]).unwrap().remove(0).verdict
}

#[test]
fn a_string_names_an_annotator() {
    use AnnotatorKind::{Length, Lexicon, RewardModel};
    assert!(matches!(read("'lexicon'").unwrap().kind, Lexicon(it) if it.path.is_none()));
    assert!(matches!(read("'length'").unwrap().kind, Length(_)));
    assert!(matches!(read("'/a/vader.txt'").unwrap().kind, Lexicon(it) if it.path.is_some()));
    assert!(matches!(read("'models/rm'").unwrap().kind, RewardModel(_)));
    let AnnotatorKind::Chat(chat) = read("'https://h:1/v1/'").unwrap().kind else { panic!("not a judge") };
    assert_eq!((chat.url.as_str(), chat.mode), ("https://h:1/v1", Mode::Compare));
    let AnnotatorKind::Panel(panel) = read("['lexicon', {kind='length'}]").unwrap().kind else { panic!("no panel") };
    assert_eq!((panel.members.len(), panel.combine), (2, Combine::Majority));
    assert!(read("'lexcon'").unwrap_err().contains("unknown annotator `lexcon`"));
}

#[test]
fn every_kind_judges() {
    assert_eq!(verdict("'lexicon'", "good", "bad"), Verdict::First);
    assert_eq!(verdict("'models/rm'", "a", "bb"), Verdict::Second);
    let length = "{kind='length', unit='words', prefer='shorter'}";
    assert_eq!(verdict(length, "a b", "cccccc"), Verdict::Second);
    let target = "{kind='length', target=3}";
    assert_eq!(verdict(target, "aa", "b"), Verdict::First);
    let regex = "{kind='regex', pattern='[0-9]', count='matches', prefer='absent'}";
    assert_eq!(verdict(regex, "1", "22"), Verdict::First);
}

#[test]
fn identical_responses_tie_in_every_annotator_built_from_a_recipe() {
    let first = r#"{kind='command', mode='compare', program='false'}"#;
    assert_eq!(verdict(first, "same", "same"), Verdict::Tie);
    assert_eq!(verdict("'length'", "same", "same"), Verdict::Tie);
}

#[cfg(unix)]
#[test]
fn a_command_is_a_list_or_a_line_and_may_be_asked_in_both_orders() {
    let script = r#"while read -r l; do echo "{\\\"verdict\\\": \\\"first\\\"}"; done"#;
    let script = script.replace(r"\\\", r"\");
    let list = format!("{{kind='command', mode='compare', program=['sh', '-c', '''{script}''']}}");
    assert_eq!(verdict(&list, "a", "b"), Verdict::First);
    let line = format!("{{kind='command', mode='compare', both_orders=true, program='''sh -c '{script}' '''}}");
    assert_eq!(verdict(&line, "a", "b"), Verdict::Tie);
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    for (toml, key) in [
        ("{kind='lexicon', file='a'}", "file"),
        ("{kind='length', pattern='a'}", "pattern"),
        ("{kind='regex', pattern='a', flags='i'}", "flags"),
        ("{kind='command', program='a', tiemout_s=1}", "tiemout_s"),
        ("{kind='reward_model', path='a', both_order=true}", "both_order"),
        ("{kind='lexcon'}", "lexcon"),
        ("{both_orders=true}", "kind"),
        ("{kind='lexicon', both_orders='yes'}", "both_orders"),
        ("{kind='command', program=[]}", "program"),
        ("{kind='command'}", "program"),
        ("{kind='chat', url='http://h', timeuot_s=1}", "timeuot_s"),
        ("{kind='chat', url='http://h', timeuot_s=1}", "`timeout_s`"),
        ("{kind='chat', url='http://h', concurrency='four'}", "four"),
        ("{kind='chat'}", "url"),
        ("{kind='chat', url='ftp://h'}", "`url`"),
        ("{kind='reward_endpoint', url='http://h', format='xml'}", "xml"),
        ("{kind='command', program='a', order='sideways'}", "`order`"),
        ("{kind='length', concurrency=2}", "concurrency"),
        ("['lexicon', 'lexcon']", "lexcon"),
    ] {
        let message = read(toml).unwrap_err();
        assert!(message.contains(key), "{toml}: {message}");
    }
    assert!(read("3").unwrap_err().contains("an annotator"));
}

#[test]
fn a_setting_without_effect_is_an_error() {
    for toml in [
        "{kind='lexicon', both_orders=true}",
        "{kind='command', program='a', both_orders=true}",
        "{kind='length', prefer='longer', target=3}",
        "{kind='command', program='a', timeout_s=0}",
        "{kind='command', program='a', timeout_s=inf}",
        "{kind='command', program='a', timeout_s=nan}",
        "{kind='command', program='a', order='random'}",
        "{kind='chat', url='http://h', mode='score', both_orders=true}",
        "{kind='chat', url='http://h', order='given', both_orders=true}",
        "{kind='chat', url='http://h', scale=[1, 5]}",
        "{kind='chat', url='http://h', mode='score', scale=[5, 1]}",
        "{kind='chat', url='http://h', temperature=-1}",
        "{kind='chat', url='http://h', tries=0}",
        "{kind='chat', url='http://h', tries=5}",
        "{kind='chat', url='http://h', concurrency=0}",
        "{kind='chat', url='http://h', timeout_s=0}",
        "{kind='chat', url='http://h', extra_body={messages=1}}",
        "{kind='reward_endpoint', url='http://h', format='vllm'}",
        "{kind='reward_endpoint', url='http://h', template='t'}",
        "{kind='reward_endpoint', url='http://h', batch_size=0}",
        "['lexicon']",
        "{kind='panel', members=['lexicon', 'length'], weights=[1]}",
        "{kind='panel', members=['lexicon', 'length'], weights=[1, 0]}",
        "{kind='panel', members=['lexicon', 'length'], both_orders=true}",
        "{kind='panel', combine='mean', members=['lexicon', {kind='command', program='a', mode='compare'}]}",
    ] {
        // serde_json holds no NaN: the last two may be refused while reading.
        let refused = read(toml).map(|config| config.build(&mut Given).err());
        assert!(!matches!(refused, Ok(None)), "{toml}");
    }
}

#[test]
fn written_settings_read_back() {
    for toml in [
        "'lexicon'",
        "'a/vader.txt'",
        "{kind='length', unit='words', target=7}",
        "{kind='regex', pattern='a'}",
        "{kind='command', program='judge -v', mode='compare', both_orders=true}",
        "{kind='reward_model', path='a'}",
        "'http://h:1/v1'",
        "{kind='chat', url='http://h', model='m', cache='x', extra_body={a={b=[1]}}, system='s', tries=2, order='given'}",
        "{kind='chat', url='http://h', mode='score', scale=[1, 5], cache=false, budget_tokens=7, api_key_env='K'}",
        "{kind='reward_endpoint', url='http://h', format='tei', template='t', batch_size=3}",
        "['lexicon', {kind='length', target=7}, 'http://h']",
        "{kind='panel', combine='mean', weights=[1, 2], members=['lexicon', ['length', 'lexicon']]}",
    ] {
        let config = read(toml).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<AnnotatorConfig>(&json).unwrap(), config);
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<AnnotatorConfig>(&text).unwrap(), config);
    }
}

#[test]
fn relative_paths_are_relative_to_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("rm")).unwrap();
    let resolved = |toml: &str| {
        let mut config = read(toml).unwrap();
        config.resolve_paths(folder.path());
        config.kind
    };
    let path = folder.path().join("words.txt");
    let expected = LexiconConfig { path: Some(path) };
    assert_eq!(resolved("'words.txt'"), AnnotatorKind::Lexicon(expected));
    let path = folder.path().join("rm");
    let expected = AnnotatorKind::RewardModel(RewardModelConfig { path });
    assert_eq!(resolved("{kind='reward_model', path='rm'}"), expected);
    let path = PathBuf::from("org/model");
    let expected = AnnotatorKind::RewardModel(RewardModelConfig { path });
    assert_eq!(resolved("'org/model'"), expected);
    let AnnotatorKind::Panel(panel) = resolved("['words.txt', {kind='chat', url='http://h', template='j', cache='c'}]")
    else {
        panic!("not a panel");
    };
    let files: Vec<_> = panel.members.iter().flat_map(AnnotatorConfig::files).map(|(_, path)| path).collect();
    assert_eq!(files, [folder.path().join("words.txt"), folder.path().join("j")]);
    let kept = panel.members[1].service.clone().unwrap().cache;
    assert_eq!(kept, CacheChoice::Folder(folder.path().join("c")));
    let AnnotatorKind::Command(command) = resolved("{kind='command', program='./j -v'}") else {
        panic!("not a command");
    };
    assert_eq!(command.cwd.as_deref(), Some(folder.path()));
    assert!(Path::new(&command.program[0]).is_absolute());
    assert_eq!(command.program[1], "-v");
}
