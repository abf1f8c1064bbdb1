use bpo_sampler::CausalLm;
use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    Decoder, Input,
    rope::Rotation,
};

/// Keys and values of the rows being sampled, with room for the whole completion: a token writes one
/// column in place. Prompts are right-padded to a common length; the padding stays hidden.
#[derive(Debug)]
pub struct KvCache {
    /// Per layer, `[rows, kv_heads, capacity, head_dim]` each.
    layers: Vec<(Tensor<4>, Tensor<4>)>,
    rows: Vec<CacheRow>,
    /// Columns of the padded prompts.
    prompt_columns: usize,
    /// Columns written so far.
    length: usize,
    capacity: usize,
}

#[derive(Debug, Clone, Copy)]
struct CacheRow {
    prompt: usize,
}

impl KvCache {
    /// 0 for the columns each row's next token may see, one query per row:
    /// `[rows, 1, group, length]`; the columns' positions decide about a sliding window.
    fn bias(&self, model: &Decoder, window: Option<usize>) -> Tensor<4> {
        let mut bias = Vec::with_capacity(self.rows.len() * self.length);
        for row in &self.rows {
            let position = |column: usize| {
                if column < self.prompt_columns { column } else { row.prompt + column - self.prompt_columns }
            };
            let now = position(self.length - 1);
            bias.extend((0..self.length).map(|column| {
                let written = column < row.prompt || column >= self.prompt_columns;
                let near = window.is_none_or(|window| position(column) + window > now);
                if written && near { 0.0 } else { HIDDEN }
            }));
        }
        let device = model.device().inner();
        grouped_bias(bias, [self.rows.len(), 1, self.length], model.config.heads().group(), &device)
    }
}

impl CausalLm for Decoder {
    type Cache = KvCache;

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context(&self) -> usize {
        self.config.max_position_embeddings
    }

    fn prefill(&self, prompts: &[&[u32]], new_tokens: usize) -> (KvCache, Tensor<2>) {
        let rows = prompts.len();
        let time = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0).max(1);
        let capacity = time + new_tokens;
        let input = padded(self, prompts, time);
        let mut x = self.embed(&input);
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(normed, &input.rotation);
            let columns = |x: &Tensor<2>| {
                let heads = self.config.heads();
                x.clone().reshape([rows, time, heads.key_value, heads.dim]).swap_dims(1, 2)
            };
            layers.push((with_room(columns(&p.k), capacity), with_room(columns(&p.v), capacity)));
            x = x + layer.attention.mix(&self.config, p, input.visibility(layer.window));
            x = self.feed_forward(layer, x);
        }
        let last: Vec<i64> = prompts.iter().enumerate().map(|(r, p)| (r * time + p.len()) as i64 - 1).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows]), &x.device());
        let logits = self.logits(self.norm.forward(x.select(0, last)));
        let cache_rows = prompts.iter().map(|prompt| CacheRow { prompt: prompt.len() }).collect();
        let cache = KvCache { layers, rows: cache_rows, prompt_columns: time, length: time, capacity };
        (cache, logits)
    }

    fn step(&self, cache: &mut KvCache, tokens: &[u32]) -> Tensor<2> {
        let rows = cache.rows.len();
        let column = cache.length;
        if column == cache.capacity {
            grow(cache);
        }
        cache.length += 1;
        let offset = column - cache.prompt_columns;
        let positions: Vec<u32> = cache.rows.iter().map(|row| (row.prompt + offset) as u32).collect();
        let device = self.device().inner();
        let rotation = Rotation::new(&self.frequencies, &positions, &device);
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &device);
        let mut x = self.embedding.clone().select(0, ids);
        if let Some(scale) = self.config.embedding_scale {
            x = x * scale;
        }
        let mut biases: Vec<(Option<usize>, Tensor<4>)> = Vec::new();
        let mut stored = std::mem::take(&mut cache.layers);
        for (layer, slot) in self.layers.iter().zip(&mut stored) {
            let bias = match biases.iter().find(|(window, _)| *window == layer.window) {
                Some((_, bias)) => bias.clone(),
                None => {
                    let bias = cache.bias(self, layer.window);
                    biases.push((layer.window, bias.clone()));
                    bias
                }
            };
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(normed, &rotation);
            let heads = self.config.heads();
            write_column(&mut slot.0, column, p.k.reshape([rows, heads.key_value, 1, heads.dim]));
            write_column(&mut slot.1, column, p.v.reshape([rows, heads.key_value, 1, heads.dim]));
            let keys = slot.0.clone().narrow(2, 0, cache.length);
            let values = slot.1.clone().narrow(2, 0, cache.length);
            let q = p.q.reshape([rows, heads.key_value, heads.group(), heads.dim]) * (heads.dim as f64).powf(-0.5);
            let w = burn::tensor::activation::softmax(q.matmul(keys.swap_dims(2, 3)) + bias, 3);
            let mixed = w.matmul(values).reshape([rows, heads.query * heads.dim]);
            x = x + layer.attention.o.forward(mixed);
            x = self.feed_forward(layer, x);
        }
        cache.layers = stored;
        self.logits(self.norm.forward(x))
    }

    fn select(&self, cache: &mut KvCache, rows: &[usize]) {
        if rows.iter().copied().eq(0..cache.rows.len()) {
            return;
        }
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), &self.device().inner());
        for (keys, values) in &mut cache.layers {
            *keys = keys.clone().select(0, index.clone());
            *values = values.clone().select(0, index.clone());
        }
        cache.rows = rows.iter().map(|&row| cache.rows[row]).collect();
    }
}

/// Right-padded prompts under a causal mask; what stands on the padding is never read.
fn padded(model: &Decoder, prompts: &[&[u32]], time: usize) -> Input {
    let rows = prompts.len();
    let mut ids = vec![0; rows * time];
    for (row, prompt) in prompts.iter().enumerate() {
        ids[row * time..row * time + prompt.len()].copy_from_slice(prompt);
    }
    let positions: Vec<u32> = (0..rows).flat_map(|_| 0..time as u32).collect();
    Input::new(
        &model.config,
        &model.frequencies,
        [rows, time],
        &ids,
        &positions,
        |_, _, _| true,
        &model.device().inner(),
    )
}

/// `[rows, heads, time, dim]` with zeros behind, up to `capacity` columns.
fn with_room(tensor: Tensor<4>, capacity: usize) -> Tensor<4> {
    let [rows, heads, time, dim] = tensor.dims();
    let room = Tensor::zeros([rows, heads, capacity, dim], &tensor.device());
    room.slice_assign([0..rows, 0..heads, 0..time, 0..dim], tensor)
}

/// Writes in place: the cache is the tensor's only owner here.
fn write_column(cache: &mut Tensor<4>, column: usize, value: Tensor<4>) {
    let [rows, heads, _, dim] = cache.dims();
    cache.inplace(|cache| cache.slice_assign([0..rows, 0..heads, column..column + 1, 0..dim], value));
}

fn grow(cache: &mut KvCache) {
    cache.capacity += cache.capacity.max(16);
    for (keys, values) in &mut cache.layers {
        keys.inplace(|keys| with_room(keys, cache.capacity));
        values.inplace(|values| with_room(values, cache.capacity));
    }
}

const HIDDEN: f32 = -1e30;
fn grouped_bias(bias: Vec<f32>, [rows, queries, keys]: [usize; 3], group: usize, device: &burn::tensor::Device) -> Tensor<4> {
    let bias = Tensor::<4>::from_data(TensorData::new(bias, [rows, 1, queries, keys]), device);
    if group == 1 { bias } else { bias.repeat_dim(2, group) }
}
