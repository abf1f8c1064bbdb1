//! How tensors are stored.

use super::blocks;

/// How the values of a tensor are stored: one by one, or quantised in blocks that share scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 4 bits and a scale for 32 values.
    Q4_0,
    /// 4 bits, a scale and an offset for 32 values.
    Q4_1,
    /// 5 bits and a scale for 32 values.
    Q5_0,
    /// 5 bits, a scale and an offset for 32 values.
    Q5_1,
    /// 8 bits and a scale for 32 values.
    Q8_0,
    /// 2 bits in blocks of 256, with scales and offsets of 4 bits for 16 values.
    Q2K,
    /// 3 bits in blocks of 256, with scales of 6 bits for 16 values.
    Q3K,
    /// 4 bits in blocks of 256, with scales and offsets of 6 bits for 32 values.
    Q4K,
    /// 5 bits in blocks of 256, with scales and offsets of 6 bits for 32 values.
    Q5K,
    /// 6 bits in blocks of 256, with scales of 8 bits for 16 values.
    Q6K,
    /// 4 bits that choose from a table of 16 values, and a scale, for 32 values.
    Iq4Nl,
}

/// Kinds with ggml's number and name, the values of a block and its bytes.
const KINDS: [(Kind, u32, &str, usize, usize); 14] = [
    (Kind::F32, 0, "F32", 1, 4),
    (Kind::F16, 1, "F16", 1, 2),
    (Kind::Bf16, 30, "BF16", 1, 2),
    (Kind::Q4_0, 2, "Q4_0", 32, 18),
    (Kind::Q4_1, 3, "Q4_1", 32, 20),
    (Kind::Q5_0, 6, "Q5_0", 32, 22),
    (Kind::Q5_1, 7, "Q5_1", 32, 24),
    (Kind::Q8_0, 8, "Q8_0", 32, 34),
    (Kind::Q2K, 10, "Q2_K", 256, 84),
    (Kind::Q3K, 11, "Q3_K", 256, 110),
    (Kind::Q4K, 12, "Q4_K", 256, 144),
    (Kind::Q5K, 13, "Q5_K", 256, 176),
    (Kind::Q6K, 14, "Q6_K", 256, 210),
    (Kind::Iq4Nl, 20, "IQ4_NL", 32, 18),
];

/// Names of types that are not read, for errors.
const OTHERS: [(u32, &str); 21] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (4, "Q4_2"),
    (5, "Q4_3"),
    (40, "NVFP4"),
];

impl Kind {
    /// The kind of ggml's type `number`, or why it is not read.
    pub(super) fn of(number: u32) -> Result<Self, String> {
        if let Some((kind, ..)) = KINDS.iter().find(|(_, own, ..)| *own == number) {
            return Ok(*kind);
        }
        let name = OTHERS.iter().find(|(own, _)| *own == number).map(|(_, name)| *name);
        let name = name.map_or_else(|| format!("type {number}"), str::to_owned);
        let read: Vec<&str> = KINDS.iter().map(|(_, _, name, ..)| *name).collect();
        Err(format!("is {name}, which is not read; {} are", read.join(", ")))
    }

    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, _, name, ..)| name)
    }

    /// Values and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or((1, 1), |(_, _, _, values, bytes)| (*values, *bytes))
    }

    /// Whether values are rounded in blocks.
    pub fn is_quantised(self) -> bool {
        self.block().0 > 1
    }

    /// The values of whole blocks, as ggml makes f32 of them; bytes that fill no block are left out.
    pub fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self {
            Self::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Self::F16 => pairs.map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Self::Bf16 => pairs.map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            Self::Q4_0 => self.blocks(bytes, blocks::q4_0),
            Self::Q4_1 => self.blocks(bytes, blocks::q4_1),
            Self::Q5_0 => self.blocks(bytes, blocks::q5_0),
            Self::Q5_1 => self.blocks(bytes, blocks::q5_1),
            Self::Q8_0 => self.blocks(bytes, blocks::q8_0),
            Self::Q2K => self.blocks(bytes, blocks::q2_k),
            Self::Q3K => self.blocks(bytes, blocks::q3_k),
            Self::Q4K => self.blocks(bytes, blocks::q4_k),
            Self::Q5K => self.blocks(bytes, blocks::q5_k),
            Self::Q6K => self.blocks(bytes, blocks::q6_k),
            Self::Iq4Nl => self.blocks(bytes, blocks::iq4_nl),
        }
    }

    fn blocks(self, bytes: &[u8], block: impl Fn(&[u8], &mut Vec<f32>)) -> Vec<f32> {
        let (values, size) = self.block();
        let mut out = Vec::with_capacity(bytes.len() / size * values);
        bytes.chunks_exact(size).for_each(|bytes| block(bytes, &mut out));
        out
    }
}
