//! Configurations of sizes that nothing has.

/// Name, `config.json`, and the words of its refusal.
pub fn attacks() -> Vec<(&'static str, String, &'static [&'static str])> {
    let with = |change: &str| {
        format!(
            r#"{{"model_type":"qwen2","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
            "num_attention_heads":2,"num_key_value_heads":1,"use_sliding_window":true{change}}}"#
        )
    };
    vec![
        ("a trillion layers", with(r#","num_hidden_layers":1000000000000"#), &["num_hidden_layers"]),
        ("2^64 - 1 layers", with(r#","num_hidden_layers":18446744073709551615"#), &["num_hidden_layers"]),
        ("a vocabulary of 2^60", with(r#","vocab_size":1152921504606846976"#), &["vocab_size"]),
        ("a width of 2^40", with(r#","hidden_size":1099511627776"#), &["hidden_size"]),
        ("no heads", with(r#","num_attention_heads":0"#), &["num_attention_heads"]),
        ("heads that overflow with their width", with(r#","head_dim":4611686018427387904"#), &["head_dim"]),
        ("more positions than 2^30", with(r#","max_position_embeddings":4611686018427387904"#), &["max_position"]),
        ("a negative size", with(r#","vocab_size":-1"#), &["vocab_size"]),
        ("a size that is text", with(r#","vocab_size":"8""#), &["vocab_size"]),
        ("a size of a million digits", with(&format!(r#","vocab_size":{}"#, "9".repeat(1_000_000))), &["config.json"]),
        ("a model_type of a megabyte", format!(r#"{{"model_type":"{}"}}"#, "x".repeat(1 << 20)), &["model_type"]),
        ("nesting of 100,000", format!(r#"{{"model_type":{}"#, "[".repeat(100_000)), &["config.json"]),
        ("no JSON", "{".to_owned(), &["config.json"]),
        ("a list", "[]".to_owned(), &["config.json"]),
        ("nothing", String::new(), &["config.json"]),
    ]
}
