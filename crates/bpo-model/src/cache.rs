use bpo_sampler::CausalLm;
use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    Decoder, Input,
    input::{HIDDEN, grouped_bias},
    rope::Rotation,
};

/// Keys and values of the rows being sampled. A row's tokens stand at the columns of their positions, from 0 on, so
/// that what its next token may see is one contiguous range of columns, whatever the ages of the other rows. A token
/// is written in place; rows that leave free theirs.
#[derive(Debug, Default)]
pub struct KvCache {
    /// Per layer, `[room for rows, kv_heads, room for columns, head_dim]` each.
    layers: Vec<[Tensor<4>; 2]>,
    rows: Vec<CacheRow>,
}

#[derive(Debug, Clone, Copy)]
struct CacheRow {
    /// Tokens it holds: the column and position of the next.
    length: usize,
    /// Columns it may come to need.
    reserved: usize,
}

impl KvCache {
    /// Columns that some row uses.
    fn columns(&self) -> usize {
        self.rows.iter().map(|row| row.length).max().unwrap_or(0)
    }

    /// Rows and columns there is room for.
    fn room(&self) -> [usize; 2] {
        self.layers.first().map_or([0; 2], |[keys, _]| [keys.dims()[0], keys.dims()[2]])
    }

    /// Makes room for what the rows may come to need, and gives back what is more than twice that. The first `filled`
    /// rows are kept; `like` has the width of an empty cache's layers.
    fn fit(&mut self, filled: usize, like: &[[Tensor<4>; 2]]) {
        let needed = [self.rows.len(), self.rows.iter().map(|row| row.reserved).max().unwrap_or(0)];
        let room = self.room();
        let is_enough = room[0] >= needed[0] && room[1] >= needed[1];
        if is_enough && room[0] * room[1] <= 2 * needed[0] * needed[1] {
            return;
        }
        // A batch fills up in several passes: twice the rows at a time, or each would copy those before.
        let rows = if needed[0] > room[0] { needed[0].max(2 * room[0]) } else { needed[0] };
        let columns = self.rows[..filled].iter().map(|row| row.length).max().unwrap_or(0);
        let empty = |like: &Tensor<4>| {
            let [_, heads, _, dim] = like.dims();
            Tensor::zeros([rows, heads, needed[1], dim], &like.device())
        };
        if self.layers.is_empty() {
            self.layers = like.iter().map(|[keys, values]| [empty(keys), empty(values)]).collect();
            return;
        }
        for tensor in self.layers.iter_mut().flatten() {
            tensor.inplace(|old| {
                let new = empty(&old);
                if filled == 0 { new } else { written(new, 0, old.narrow(0, 0, filled).narrow(2, 0, columns)) }
            });
        }
    }

    /// 0 for the columns each row's last token may see, one query per row: `[rows, 1, group, columns]`.
    fn bias(&self, model: &Decoder, window: Option<usize>) -> Tensor<4> {
        let columns = self.columns();
        let mut bias = vec![HIDDEN; self.rows.len() * columns];
        for (row, bias) in self.rows.iter().zip(bias.chunks_exact_mut(columns)) {
            let start = window.map_or(0, |window| row.length.saturating_sub(window));
            bias[start..row.length].fill(0.0);
        }
        grouped_bias(bias, [self.rows.len(), 1, columns], model.config.group(), &model.device().inner())
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

    fn prefill(&self, prompts: &[&[u32]]) -> (KvCache, Tensor<2>) {
        let rows = prompts.len();
        let time = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0).max(1);
        let input = padded(self, prompts, time);
        let mut x = self.embed(&input);
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(&self.config, normed, rows, &input.rotation);
            layers.push([p.k.clone(), p.v.clone()]);
            x = x + layer.attention.mix(&self.config, p.q, p.k, p.v, input.bias(layer.window));
            x = self.feed_forward(layer, x);
        }
        let last: Vec<i64> = prompts.iter().enumerate().map(|(r, p)| (r * time + p.len()) as i64 - 1).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows]), &x.device());
        let logits = self.logits(self.norm.forward(x.select(0, last)));
        let row = |prompt: &&[u32]| CacheRow { length: prompt.len(), reserved: prompt.len() };
        (KvCache { layers, rows: prompts.iter().map(row).collect() }, logits)
    }

    fn step(&self, cache: &mut KvCache, tokens: &[u32]) -> Tensor<2> {
        let rows = cache.rows.len();
        let columns: Vec<usize> = cache.rows.iter().map(|row| row.length).collect();
        if cache.columns() == cache.room()[1] {
            // A row that outgrows its reserve is given twice its length.
            cache.rows.iter_mut().for_each(|row| row.reserved = row.reserved.max(2 * row.length));
            cache.fit(rows, &[]);
        }
        cache.rows.iter_mut().for_each(|row| row.length += 1);
        let positions: Vec<u32> = columns.iter().map(|&column| column as u32).collect();
        let device = self.device().inner();
        let rotation = Rotation::new(&self.frequencies, &positions, rows, 1, &device);
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &device);
        let mut x = self.embedding.clone().select(0, ids);
        if let Some(scale) = self.config.embedding_scale {
            x = x * scale;
        }
        let mut biases: Vec<(Option<usize>, Tensor<4>)> = Vec::new();
        let visible = cache.columns();
        let mut stored = std::mem::take(&mut cache.layers);
        for (layer, [keys, values]) in self.layers.iter().zip(&mut stored) {
            let bias = match biases.iter().find(|(window, _)| *window == layer.window) {
                Some((_, bias)) => bias.clone(),
                None => {
                    let bias = cache.bias(self, layer.window);
                    biases.push((layer.window, bias.clone()));
                    bias
                }
            };
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(&self.config, normed, rows, &rotation);
            write_tokens(keys, &columns, &p.k);
            write_tokens(values, &columns, &p.v);
            let seen = |tensor: &Tensor<4>| tensor.clone().narrow(0, 0, rows).narrow(2, 0, visible);
            x = x + layer.attention.mix(&self.config, p.q, seen(keys), seen(values), bias);
            x = self.feed_forward(layer, x);
        }
        cache.layers = stored;
        self.logits(self.norm.forward(x))
    }

    fn append(&self, cache: &mut KvCache, from: &KvCache, rows: &[usize], room: usize) {
        let first = cache.rows.len();
        let with_room = |&row: &usize| {
            let length = from.rows[row].length;
            CacheRow { length, reserved: length + room }
        };
        cache.rows.extend(rows.iter().map(with_room));
        cache.fit(first, &from.layers);
        let columns = cache.rows[first..].iter().map(|row| row.length).max().unwrap_or(0);
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), &self.device().inner());
        for (tensor, from) in cache.layers.iter_mut().flatten().zip(from.layers.iter().flatten()) {
            let new = from.clone().narrow(2, 0, columns).select(0, index.clone());
            tensor.inplace(|tensor| written(tensor, first, new));
        }
    }

    fn swap_remove(&self, cache: &mut KvCache, row: usize) {
        let last = cache.rows.len() - 1;
        let columns = cache.rows[last].length;
        cache.rows.swap_remove(row);
        if row == last {
            return;
        }
        let index = Tensor::<1, Int>::from_data(TensorData::new(vec![last as i64], [1]), &self.device().inner());
        for tensor in cache.layers.iter_mut().flatten() {
            // Selected, not sliced: a view would share the tensor, and writing would copy it all.
            let moved = tensor.clone().select(0, index.clone()).narrow(2, 0, columns);
            tensor.inplace(|tensor| written(tensor, row, moved));
        }
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

/// `tensor` with `new` `[rows, heads, columns, dim]` at its first columns from row `first` on; in place where the
/// tensor has no other owner.
fn written(tensor: Tensor<4>, first: usize, new: Tensor<4>) -> Tensor<4> {
    let [rows, heads, columns, dim] = new.dims();
    tensor.slice_assign([first..first + rows, 0..heads, 0..columns, 0..dim], new)
}

/// Writes `new` `[rows, heads, 1, dim]` into each row's own column of `tensor`, in place; neighbours that are of one
/// age are written at once.
fn write_tokens(tensor: &mut Tensor<4>, columns: &[usize], new: &Tensor<4>) {
    let [_, heads, _, dim] = new.dims();
    let mut row = 0;
    for run in columns.chunk_by(|a, b| a == b) {
        let (rows, column) = (row..row + run.len(), run[0]);
        row = rows.end;
        let new = new.clone().narrow(0, rows.start, run.len());
        tensor.inplace(|tensor| tensor.slice_assign([rows, 0..heads, column..column + 1, 0..dim], new));
    }
}
