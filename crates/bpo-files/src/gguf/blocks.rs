//! The blocks of quantised tensors, as `ggml-quants.c` lays them out. Each function appends the values of one block.

/// A scale in half precision.
fn scale(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Low nibbles, then high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// Nibbles with a fifth bit each.
fn fives<'a>(bits: &[u8], bytes: &'a [u8]) -> impl Iterator<Item = u8> + 'a {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    nibbles(bytes).enumerate().map(move |(index, low)| low | ((bits >> index & 1) << 4) as u8)
}

/// Scale; 32 nibbles around 8.
pub(super) fn q4_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(block);
    out.extend(nibbles(&block[2..]).map(|q| d * (f32::from(q) - 8.0)));
}

/// What the nibbles of [`iq4_nl`] stand for.
const IQ4_NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Scale; 32 nibbles, places in a table. Rows that are no multiple of 256 have it beside Q2_K and Q3_K.
pub(super) fn iq4_nl(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(block);
    out.extend(nibbles(&block[2..]).map(|q| d * f32::from(IQ4_NL[usize::from(q)])));
}

/// Scale, offset; 32 nibbles.
pub(super) fn q4_1(block: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (scale(block), scale(&block[2..]));
    out.extend(nibbles(&block[4..]).map(|q| d * f32::from(q) + m));
}

/// Scale; 32 fifth bits; 32 nibbles, around 16 with them.
pub(super) fn q5_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(block);
    out.extend(fives(&block[2..6], &block[6..]).map(|q| d * (f32::from(q) - 16.0)));
}

/// Scale, offset; 32 fifth bits; 32 nibbles.
pub(super) fn q5_1(block: &[u8], out: &mut Vec<f32>) {
    let (d, m) = (scale(block), scale(&block[2..]));
    out.extend(fives(&block[4..8], &block[8..]).map(|q| d * f32::from(q) + m));
}

/// Scale; 32 signed bytes.
pub(super) fn q8_0(block: &[u8], out: &mut Vec<f32>) {
    let d = scale(block);
    out.extend(block[2..].iter().map(|&q| d * f32::from(q.cast_signed())));
}

/// 16 bytes with a scale and an offset of 4 bits each; 256 pairs of bits; the scale of scales and of offsets. Each half of
/// the values has 32 bytes for its four parts of 32, two bits of each byte for a part.
pub(super) fn q2_k(block: &[u8], out: &mut Vec<f32>) {
    let (d, dmin) = (scale(&block[80..]), scale(&block[82..]));
    for (place, scales) in block[..16].iter().enumerate() {
        let (half, part, side) = (place / 8, place % 8 / 2, place % 2);
        let (d, m) = (d * f32::from(scales & 15), dmin * f32::from(scales >> 4));
        let bytes = &block[16 + 32 * half + 16 * side..][..16];
        out.extend(bytes.iter().map(|byte| d * f32::from(byte >> (2 * part) & 3) - m));
    }
}

/// 256 third bits, those of part `p` of both halves in bit `p` of 32 bytes; pairs of bits as in [`q2_k`]; 16 scales of 6
/// bits around 32 in twelve bytes; the scale of scales. Values are around 4.
pub(super) fn q3_k(block: &[u8], out: &mut Vec<f32>) {
    let (packed, d) = (&block[96..108], scale(&block[108..]));
    for place in 0..16 {
        let (half, part, side) = (place / 8, place % 8 / 2, place % 2);
        let (low, high) = (packed[place % 8] >> (place / 8 * 4) & 15, packed[8 + place % 4] >> (place / 4 * 2) & 3);
        let d = d * (f32::from(low | high << 4) - 32.0);
        let (lows, highs) = (&block[32 + 32 * half + 16 * side..][..16], &block[16 * side..][..16]);
        let quant = |(low, high): (&u8, &u8)| low >> (2 * part) & 3 | (high >> (4 * half + part) & 1) << 2;
        out.extend(lows.iter().zip(highs).map(|pair| d * (f32::from(quant(pair)) - 4.0)));
    }
}

/// Scale and offset of the 32 values of part `index`, 6 bits each in twelve bytes.
fn six_bits(packed: &[u8], index: usize) -> (f32, f32) {
    let (scale, offset) = match index {
        0..4 => (packed[index] & 63, packed[index + 4] & 63),
        _ => (packed[index + 4] & 15 | packed[index - 4] >> 6 << 4, packed[index + 4] >> 4 | packed[index] >> 6 << 4),
    };
    (f32::from(scale), f32::from(offset))
}

/// Scales of scales and of offsets; their 6 bits; 8 parts of 32 nibbles, two parts in each 32 bytes.
pub(super) fn q4_k(block: &[u8], out: &mut Vec<f32>) {
    k_nibbles(block, &block[16..], |_, _| 0, out);
}

/// As [`q4_k`], with 32 bytes that hold the fifth bits: those of part `p` are bit `p` of each.
pub(super) fn q5_k(block: &[u8], out: &mut Vec<f32>) {
    let fifth = |part: usize, index: usize| (block[16 + index] >> part & 1) << 4;
    k_nibbles(block, &block[48..], fifth, out);
}

fn k_nibbles(block: &[u8], quants: &[u8], fifth: impl Fn(usize, usize) -> u8, out: &mut Vec<f32>) {
    let (d, dmin) = (scale(block), scale(&block[2..]));
    for (pair, bytes) in quants.chunks_exact(32).enumerate() {
        for high in 0..2 {
            let part = 2 * pair + high;
            let (sub, offset) = six_bits(&block[4..16], part);
            let (d, m) = (d * sub, dmin * offset);
            let value = |(index, byte): (usize, &u8)| d * f32::from(byte >> (4 * high) & 15 | fifth(part, index)) - m;
            out.extend(bytes.iter().enumerate().map(value));
        }
    }
}

/// 256 nibbles, 256 pairs of high bits, 16 signed scales, the scale of scales. Each half of the values has 64 bytes of
/// nibbles and 32 of high bits for its four parts of 32.
pub(super) fn q6_k(block: &[u8], out: &mut Vec<f32>) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], scale(&block[208..]));
    for half in 0..2 {
        for part in 0..4 {
            for index in 0..32 {
                let low = low[64 * half + part % 2 * 32 + index] >> (part / 2 * 4) & 15;
                let high = high[32 * half + index] >> (2 * part) & 3;
                let scale = f32::from(scales[8 * half + 2 * part + index / 16].cast_signed());
                out.push(d * scale * (f32::from(low | high << 4) - 32.0));
            }
        }
    }
}
