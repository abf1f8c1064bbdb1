//! Tells the program whether the story model's weights are there to be built in.
use std::path::Path;

const MODEL: &str = "../../assets/story/model";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bpo_story)");
    println!("cargo::rerun-if-changed={MODEL}");
    let there = |name: &str| Path::new(MODEL).join(name).is_file();
    if there("config.json") && there("model.safetensors") {
        println!("cargo::rustc-cfg=bpo_story");
    }
}
