//! Where the tensors of a model lie, from headers that are checked and not trusted.
//!
//!     cargo run --release -p bpo-files --example where_tensors_lie -- MODEL_DIR
//!
//! Without a folder, a file made here is read, and a damaged copy of it is refused.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::path::Path;

use bpo_files::{Error, safetensors};

fn main() -> Result<(), Error> {
    if let Some(dir) = std::env::args().nth(1) {
        for (name, tensor) in safetensors::open(Path::new(&dir))? {
            println!("{name}: {:?} {:?}, {} bytes from {}", tensor.dtype, tensor.shape, tensor.length, tensor.start);
        }
        return Ok(());
    }
    let file = |end: u64| {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":[2],"data_offsets":[0,{end}]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
    };
    let tensors = safetensors::in_memory("good.safetensors", &file(8))?;
    println!("w: {:?}, {} bytes from {}", tensors["w"].shape, tensors["w"].length, tensors["w"].start);
    match safetensors::in_memory("bad.safetensors", &file(1 << 40)) {
        Err(refused) => println!("refused: {refused}"),
        Ok(_) => unreachable!("a tensor of a tebibyte does not lie in eight bytes"),
    }
    Ok(())
}
