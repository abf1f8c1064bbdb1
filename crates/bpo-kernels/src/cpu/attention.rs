//! Attention over the keys that each query may see, a tile of queries at a time: the weights of all queries against
//! all keys never exist at once, and what the mask hides is not computed.
use std::ops::Range;

use super::{
    gemm::{Matrix, MatrixMut, Write, gemm},
    math,
    parallel::{self, Shared},
    skinny,
};
use crate::{Heads, Visibility};

/// Queries of one tile.
const TILE: usize = 64;

/// Rows `[tokens, heads · dim]`, of which one head is looked at.
#[derive(Clone, Copy)]
struct Head<'a> {
    values: &'a [f32],
    width: usize,
    offset: usize,
    dim: usize,
}

impl<'a> Head<'a> {
    fn new(values: &'a [f32], heads: usize, head: usize, dim: usize) -> Self {
        Self { values, width: heads * dim, offset: head * dim, dim }
    }

    fn rows(&self, range: &Range<usize>) -> Matrix<'a> {
        let start = range.start * self.width + self.offset;
        Matrix::strided(&self.values[start..], range.len(), self.dim, self.width)
    }

    fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.width + self.offset..][..self.dim]
    }
}

/// The same, for writing.
#[derive(Clone, Copy)]
struct HeadMut<'a> {
    values: Shared<'a>,
    width: usize,
    offset: usize,
    dim: usize,
}

impl<'a> HeadMut<'a> {
    /// # Safety
    /// Nobody else reads or writes these rows of this head meanwhile.
    unsafe fn rows(&self, range: &Range<usize>) -> MatrixMut<'a> {
        let start = range.start * self.width + self.offset;
        // SAFETY: the caller's promise.
        unsafe { MatrixMut::within(self.values, start, range.len(), self.dim, self.width) }
    }
}

/// A tile of queries and the keys that any of them sees.
struct Tile {
    queries: Range<usize>,
    /// Disjoint, ascending.
    keys: Vec<Range<usize>>,
    /// How many keys those are: the width of the tile's weights.
    span: usize,
    /// Per query, the columns of the weights that it sees.
    visible: Vec<Vec<Range<usize>>>,
}

impl Tile {
    fn new(queries: Range<usize>, visibility: &Visibility) -> Self {
        let mut seen: Vec<Range<usize>> = queries.clone().flat_map(|query| visibility.of(query)).collect();
        seen.sort_unstable_by_key(|range| range.start);
        let mut keys: Vec<Range<usize>> = Vec::new();
        for range in seen {
            match keys.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => keys.push(range),
            }
        }
        let columns = |range: Range<usize>| {
            let mut before = 0;
            for part in &keys {
                if range.start < part.end {
                    return before + range.start - part.start..before + range.end - part.start;
                }
                before += part.len();
            }
            before..before
        };
        let visible = queries.clone().map(|query| visibility.of(query).map(columns).collect()).collect();
        let span = keys.iter().map(Range::len).sum();
        Self { queries, keys, span, visible }
    }

    /// Each key range with its first column.
    fn parts(&self) -> impl Iterator<Item = (usize, &Range<usize>)> {
        let starts = self.keys.iter().scan(0, |before, part| {
            let start = *before;
            *before += part.len();
            Some(start)
        });
        starts.zip(&self.keys)
    }

    /// `factor · a · bᵀ` for the tile's rows of `a` and all its keys' rows of `b`.
    fn products(&self, out: &mut [f32], factor: f32, a: Head<'_>, b: Head<'_>) {
        for (column, keys) in self.parts() {
            let (a, b) = (a.rows(&self.queries), b.rows(keys).transposed());
            let out = MatrixMut::new(&mut out[column..], self.queries.len(), keys.len(), self.span);
            gemm(Write::Replace, out, factor, a, b, false);
        }
    }

    /// Zeroes what a query does not see and hands what it sees to `f`, range by range.
    #[inline(always)]
    fn each_visible(&self, row: usize, weights: &mut [f32], mut f: impl FnMut(Range<usize>, &mut [f32])) {
        let mut done = 0;
        for range in &self.visible[row] {
            weights[done..range.start].fill(0.0);
            f(range.clone(), &mut weights[range.clone()]);
            done = range.end;
        }
        weights[done..].fill(0.0);
    }

    /// Matrix of the tile's weights for the keys of one range.
    fn weights<'a>(&self, weights: &'a [f32], column: usize, keys: &Range<usize>) -> Matrix<'a> {
        Matrix::strided(&weights[column..], self.queries.len(), keys.len(), self.span)
    }
}

fn tiles(part: &Range<usize>, visibility: &Visibility) -> impl Iterator<Item = Tile> {
    let end = part.end;
    part.clone().step_by(TILE).map(move |start| Tile::new(start..(start + TILE).min(end), visibility))
}

/// What attention reads: `q` `[tokens, heads · dim]`, `k` and `v` `[tokens, kv_heads · dim]`.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub visibility: &'a Visibility,
    pub heads: Heads,
    pub scale: f32,
}

impl<'a> Inputs<'a> {
    fn query_head(&self, head: usize) -> Head<'a> {
        Head::new(self.q, self.heads.query(), head, self.heads.dim())
    }

    fn keys(&self, kv: usize) -> Head<'a> {
        Head::new(self.k, self.heads.key_value(), kv, self.heads.dim())
    }

    fn values(&self, kv: usize) -> Head<'a> {
        Head::new(self.v, self.heads.key_value(), kv, self.heads.dim())
    }

    /// Runs `work` for every one of `items` and every key head.
    fn each<T: Sync>(&self, items: &[T], work: impl Fn(&T, usize) + Send + Sync) {
        let kv = self.heads.key_value();
        parallel::tasks(items.len() * kv, |task| work(&items[task / kv], task % kv));
    }

    fn writer<'o>(&self, out: &'o mut [f32], heads: usize) -> impl Fn(usize) -> HeadMut<'o> + use<'o> {
        let (values, dim) = (Shared::new(out), self.heads.dim());
        move |head| HeadMut { values, width: heads * dim, offset: head * dim, dim }
    }
}

/// `out` `[tokens, heads · dim]` and the log-normaliser of every query and head, `[tokens, heads]`.
pub fn forward(inputs: Inputs<'_>, out: &mut [f32], normalisers: &mut [f32]) {
    let heads = inputs.heads;
    let (out, normalisers) = (inputs.writer(out, heads.query()), Shared::new(normalisers));
    let parts = inputs.visibility.parts().iter();
    let tiles: Vec<Tile> = parts.flat_map(|part| tiles(part, inputs.visibility)).collect();
    inputs.each(&tiles, |tile, kv| {
        let mut weights = vec![0.0; tile.queries.len() * tile.span];
        for head in heads.of_key_value(kv) {
            tile.products(&mut weights, inputs.scale, inputs.query_head(head), inputs.keys(kv));
            vectorised!({
                for (row, weights) in weights.chunks_exact_mut(tile.span).enumerate() {
                    let at = (tile.queries.start + row) * heads.query() + head;
                    // SAFETY: one element per query and head.
                    let normaliser = unsafe { normalisers.part(at..at + 1) };
                    normaliser[0] = softmax(tile, row, weights);
                }
            });
            let mut into = Write::Replace;
            for (column, keys) in tile.parts() {
                // SAFETY: this task alone has these queries of this head.
                let out = unsafe { out(head).rows(&tile.queries) };
                let weights = tile.weights(&weights, column, keys);
                gemm(into, out, 1.0, weights, inputs.values(kv).rows(keys), false);
                into = Write::Add;
            }
        }
    });
}

/// Turns a query's scores into weights; returns log Σ exp.
#[inline(always)]
fn softmax(tile: &Tile, row: usize, weights: &mut [f32]) -> f32 {
    let highest = tile.visible[row].iter().map(|range| math::max(&weights[range.clone()])).fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    tile.each_visible(row, weights, |_, visible| sum += math::exp_in_place(visible, highest));
    let inverse = (1.0 / sum) as f32;
    weights.iter_mut().for_each(|weight| *weight *= inverse);
    (f64::from(highest) + sum.ln()) as f32
}

/// What the backward pass reads besides the inputs.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    /// `[tokens, heads · dim]`.
    pub out: &'a [f32],
    /// Its gradient.
    pub gradient: &'a [f32],
    /// `[tokens, heads]`.
    pub normalisers: &'a [f32],
}

/// Gradients in queries, keys and values. Weights are computed again from the normalisers.
pub fn backward(inputs: Inputs<'_>, outputs: Outputs<'_>, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
    let heads = inputs.heads;
    dk.fill(0.0);
    dv.fill(0.0);
    let dq = inputs.writer(dq, heads.query());
    let (dk, dv) = (inputs.writer(dk, heads.key_value()), inputs.writer(dv, heads.key_value()));
    // Tiles of one part add to the same keys, one after another: the order of sums is that of the queries.
    let parts = inputs.visibility.parts().iter();
    let parts: Vec<Vec<Tile>> = parts.map(|part| tiles(part, inputs.visibility).collect()).collect();
    inputs.each(&parts, |tiles, kv| {
        let (mut weights, mut slopes) = (Vec::new(), Vec::new());
        for tile in tiles {
            weights.resize(tile.queries.len() * tile.span, 0.0);
            slopes.resize(tile.queries.len() * tile.span, 0.0);
            for head in heads.of_key_value(kv) {
                let gradient = Head::new(outputs.gradient, heads.query(), head, heads.dim());
                tile.products(&mut weights, inputs.scale, inputs.query_head(head), inputs.keys(kv));
                tile.products(&mut slopes, 1.0, gradient, inputs.values(kv));
                vectorised!(score_slopes(tile, head, heads, outputs, &mut weights, &mut slopes));
                let queries = inputs.query_head(head).rows(&tile.queries);
                let mut into = Write::Replace;
                for (column, keys) in tile.parts() {
                    // SAFETY: this task alone has these queries of this head, and these keys of this key head: no query
                    // of another of `Visibility::parts` sees them.
                    let (dq, dk, dv) = unsafe { (dq(head).rows(&tile.queries), dk(kv).rows(keys), dv(kv).rows(keys)) };
                    let slopes = tile.weights(&slopes, column, keys);
                    let weights = tile.weights(&weights, column, keys).transposed();
                    gemm(into, dq, inputs.scale, slopes, inputs.keys(kv).rows(keys), false);
                    gemm(Write::Add, dk, inputs.scale, slopes.transposed(), queries, false);
                    gemm(Write::Add, dv, 1.0, weights, gradient.rows(&tile.queries), false);
                    into = Write::Add;
                }
            }
        }
    });
}

/// Scores become weights, and gradients of weights those of scores: `p·(dp − Σ dp·p)`.
#[inline(always)]
fn score_slopes(tile: &Tile, head: usize, heads: Heads, outputs: Outputs<'_>, weights: &mut [f32], slopes: &mut [f32]) {
    let out = Head::new(outputs.out, heads.query(), head, heads.dim());
    let gradient = Head::new(outputs.gradient, heads.query(), head, heads.dim());
    let span = tile.span;
    for (row, (weights, slopes)) in weights.chunks_exact_mut(span).zip(slopes.chunks_exact_mut(span)).enumerate() {
        let query = tile.queries.start + row;
        let normaliser = outputs.normalisers[query * heads.query() + head];
        let mean = math::dot(out.row(query), gradient.row(query));
        tile.each_visible(row, weights, |_, weights| {
            weights.iter_mut().for_each(|weight| *weight = math::exp(*weight - normaliser));
        });
        tile.each_visible(row, slopes, |range, slopes| {
            for (slope, weight) in slopes.iter_mut().zip(&weights[range]) {
                *slope = weight * (*slope - mean);
            }
        });
    }
}

/// One query per row against that row's part of a cache: `q` `[rows, heads · dim]`, `keys` and `values`
/// `[rows, kv_heads, capacity, dim]`, of which row `r` sees the columns `visible[r]`; `out` like `q`.
pub fn decode(
    out: &mut [f32],
    q: &[f32],
    [keys, values]: [&[f32]; 2],
    visible: &[Range<usize>],
    capacity: usize,
    heads: Heads,
    scale: f32,
) {
    let (group, dim) = (heads.group(), heads.dim());
    let longest = visible.iter().map(Range::len).max().unwrap_or(0);
    let out = Shared::new(out);
    let grain = (1 << 15) / (group * dim * longest).max(1);
    parallel::ranges(visible.len() * heads.key_value(), grain.max(1), |tasks| {
        let mut weights = vec![0.0; group * longest];
        for task in tasks {
            let (row, kv) = (task / heads.key_value(), task % heads.key_value());
            let seen = visible[row].clone();
            let columns = (task * capacity + seen.start) * dim..(task * capacity + seen.end) * dim;
            let (keys, values) = (&keys[columns.clone()], &values[columns]);
            let queries = (row * heads.query() + kv * group) * dim..(row * heads.query() + (kv + 1) * group) * dim;
            let weights = &mut weights[..group * seen.len()];
            skinny::stream(weights, &q[queries.clone()], keys, [group, dim, seen.len()]);
            // SAFETY: a task is one row and key head, whose query heads nobody else has.
            let out = unsafe { out.part(queries) };
            vectorised!(mix(out, weights, values, [group, dim, seen.len()], scale));
        }
    });
}

/// Softmax of each line of scores, then the values so weighted.
#[inline(always)]
fn mix(out: &mut [f32], scores: &mut [f32], values: &[f32], [group, dim, length]: [usize; 3], scale: f32) {
    for (out, weights) in out.chunks_exact_mut(dim).zip(scores.chunks_exact_mut(length)).take(group) {
        weights.iter_mut().for_each(|score| *score *= scale);
        let highest = math::max(weights);
        let inverse = (1.0 / math::exp_in_place(weights, highest)) as f32;
        out.fill(0.0);
        for (weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
            let weight = weight * inverse;
            for (out, value) in out.iter_mut().zip(values) {
                *out += weight * value;
            }
        }
    }
}
