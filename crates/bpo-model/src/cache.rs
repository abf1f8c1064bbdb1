use std::sync::Arc;

use bpo_kernels::{CacheView, write_columns};
use bpo_sampler::CausalLm;
use burn::tensor::{Int, Tensor, TensorData};

use crate::{Decoder, Input, mask::CacheMask};

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
            Tensor::zeros([rows, heads, needed[1], dim], (&like.device(), like.dtype()))
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

    /// The columns each row's last token may see.
    fn mask(&self, window: Option<usize>) -> Arc<CacheMask> {
        let start = |length: usize| window.map_or(0, |window| length.saturating_sub(window));
        let view = CacheView::new(self.rows.iter().map(|row| start(row.length)..row.length).collect());
        Arc::new(CacheMask::new(view))
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
        let (input, heads) = (padded(self, prompts, time), self.config.heads());
        let mut x = self.embed(&input);
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(normed, input.places.rotation(layer.window));
            let columns =
                |x: &Tensor<2>| x.clone().reshape([rows, time, heads.key_value(), heads.dim()]).swap_dims(1, 2);
            layers.push([columns(&p.k), columns(&p.v)]);
            let mixed = layer.attention.mix(p, input.mask(layer.window));
            x = layer.after_attention(&self.config, x, mixed);
        }
        let last: Vec<i64> = prompts.iter().enumerate().map(|(r, p)| (r * time + p.len()) as i64 - 1).collect();
        let last = Tensor::<1, Int>::from_data(TensorData::new(last, [rows]), &x.device());
        let logits = self.logits(self.norm.forward(x.select(0, last)));
        let row = |prompt: &&[u32]| CacheRow { length: prompt.len(), reserved: prompt.len() };
        (KvCache { layers, rows: prompts.iter().map(row).collect() }, logits)
    }

    fn step(&self, cache: &mut KvCache, tokens: &[u32]) -> Tensor<2> {
        let rows = cache.rows.len();
        let columns: Arc<Vec<usize>> = Arc::new(cache.rows.iter().map(|row| row.length).collect());
        if cache.columns() == cache.room()[1] {
            // A row that outgrows its reserve is given twice its length.
            cache.rows.iter_mut().for_each(|row| row.reserved = row.reserved.max(2 * row.length));
            cache.fit(rows, &[]);
        }
        cache.rows.iter_mut().for_each(|row| row.length += 1);
        let positions: Vec<u32> = columns.iter().map(|&column| column as u32).collect();
        let device = self.device().inner();
        let places = self.frequencies.places(&positions, &device);
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &device);
        let mut x = self.embedded(ids, &places);
        let mut masks: Vec<(Option<usize>, Arc<CacheMask>)> = Vec::new();
        let mut stored = std::mem::take(&mut cache.layers);
        for (layer, [keys, values]) in self.layers.iter().zip(&mut stored) {
            let mask = match masks.iter().find(|(window, _)| *window == layer.window) {
                Some((_, mask)) => Arc::clone(mask),
                None => {
                    let mask = cache.mask(layer.window);
                    masks.push((layer.window, Arc::clone(&mask)));
                    mask
                }
            };
            let normed = layer.attention_norm.forward(x.clone());
            let p = layer.attention.project(normed, places.rotation(layer.window));
            keys.inplace(|keys| write_columns(keys, &columns, p.k));
            values.inplace(|values| write_columns(values, &columns, p.v));
            let mixed = layer.attention.mix_cached(p.q, [keys.clone(), values.clone()], &mask);
            x = layer.after_attention(&self.config, x, mixed);
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
