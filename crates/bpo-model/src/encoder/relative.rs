//! Disentangled attention (He et al. 2021, arXiv:2006.03654): contents and distances have scores of their own.
use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};

use super::{EncoderConfig, config::RelativeConfig, layer};
use crate::{Error, linear::Linear, norm::Norm, source::Source};

/// The embeddings of distances, which all layers share.
#[derive(Debug, Clone)]
pub(super) struct Distances {
    config: RelativeConfig,
    /// `[2 · span, hidden]`, as in the file.
    pub table: Tensor<2>,
    pub norm: Option<Norm>,
}

/// How a layer projects them; nothing where it uses its own queries' and keys' layers.
#[derive(Debug, Clone)]
pub(super) struct Projections {
    pub key: Option<Linear>,
    pub query: Option<Linear>,
}

/// The distances between the tokens of a batch, `[time, time]` each.
pub(super) struct Places {
    /// Row of the distance from key to query, for queries.
    of_query: Tensor<2, Int>,
    /// The same for keys.
    of_key: Tensor<2, Int>,
    /// `[rows, 1, 1, time]`, added to scores.
    bias: Tensor<4>,
    /// `[2 · span, hidden]`, of the distances.
    embeddings: Tensor<2>,
}

impl Distances {
    pub fn read(c: &EncoderConfig, config: &RelativeConfig, source: &mut dyn Source) -> Result<Self, Error> {
        let name = |module: &str| format!("{}.{module}", c.names.encoder);
        let table = source.matrix(&name("rel_embeddings.weight"), [2 * config.span, c.hidden_size], false)?;
        let norm = config.normed.then(|| Norm::layer(name("LayerNorm"), c.hidden_size, c.norm_eps, source));
        Ok(Self { config: config.clone(), table, norm: norm.transpose()? })
    }

    /// `lengths` of the rows, all padded to `time`.
    pub fn places(&self, lengths: &[usize], time: usize, device: &Device) -> Places {
        let span = self.config.span as i64;
        let row = |distance: i64| (distance + span).clamp(0, 2 * span - 1);
        let table = |row_of: &dyn Fn(i64) -> i64| {
            let rows = (0..time * time).map(|i| row_of((i / time) as i64 - (i % time) as i64)).collect::<Vec<i64>>();
            Tensor::from_data(TensorData::new(rows, [time, time]), device)
        };
        let hidden =
            |length: &usize| (0..time).map(|key| if key < *length { 0.0 } else { -1e30 }).collect::<Vec<f32>>();
        let bias: Vec<f32> = lengths.iter().flat_map(hidden).collect();
        Places {
            of_query: table(&|distance| row(self.config.bucket(distance))),
            of_key: table(&|distance| row(-self.config.bucket(distance))),
            bias: Tensor::from_data(TensorData::new(bias, [lengths.len(), 1, 1, time]), device),
            embeddings: match &self.norm {
                Some(norm) => norm.forward(self.table.clone()),
                None => self.table.clone(),
            },
        }
    }

    /// Every token's mix of values, `[tokens, hidden]`, of queries, keys and values of the same shape.
    pub fn attention(
        &self,
        [q, k, v]: [Tensor<2>; 3],
        layer: &layer::Layer,
        places: &Places,
        heads: usize,
    ) -> Tensor<2> {
        let ([rows, _, _, time], [tokens, hidden]) = (places.bias.dims(), q.dims());
        let dim = hidden / heads;
        let split = |x: Tensor<2>| x.reshape([rows, time, heads, dim]).swap_dims(1, 2);
        let [q, k, v] = [q, k, v].map(split);
        let parts = 1 + usize::from(self.config.content_to_position) + usize::from(self.config.position_to_content);
        let scale = ((dim * parts) as f64).powf(-0.5);
        let index = |table: &Tensor<2, Int>| table.clone().unsqueeze::<4>().expand([rows, heads, time, time]);
        let mut scores = q.clone().matmul(k.clone().swap_dims(2, 3));
        if self.config.content_to_position {
            let own = layer.distances.as_ref().and_then(|own| own.key.as_ref());
            let keys = places.projected(own.unwrap_or(&layer.qkv[1]), heads);
            scores = scores + q.matmul(keys).gather(3, index(&places.of_query));
        }
        if self.config.position_to_content {
            let own = layer.distances.as_ref().and_then(|own| own.query.as_ref());
            let queries = places.projected(own.unwrap_or(&layer.qkv[0]), heads);
            scores = scores + k.matmul(queries).gather(3, index(&places.of_key)).swap_dims(2, 3);
        }
        let weights = softmax(scores * scale + places.bias.clone(), 3);
        weights.matmul(v).swap_dims(1, 2).reshape([tokens, hidden])
    }
}

impl Places {
    /// `[1, heads, head_dim, 2 · span]`.
    fn projected(&self, by: &Linear, heads: usize) -> Tensor<4> {
        let x = by.forward(self.embeddings.clone());
        let [count, hidden] = x.dims();
        x.reshape([1, count, heads, hidden / heads]).permute([0, 2, 3, 1])
    }
}

impl Projections {
    /// Of the layer whose attention is at `base`.
    pub fn read(
        c: &EncoderConfig,
        relative: &RelativeConfig,
        base: &str,
        source: &mut dyn Source,
    ) -> Result<Self, Error> {
        let mut one = |wanted: bool, name: &str| {
            let path = format!("{base}.attention.self.{name}");
            let shape = [c.hidden_size, c.hidden_size];
            (wanted && !relative.shared).then(|| crate::layer::linear(path, shape, true, &mut *source)).transpose()
        };
        Ok(Self {
            key: one(relative.content_to_position, "pos_key_proj")?,
            query: one(relative.position_to_content, "pos_query_proj")?,
        })
    }
}

impl RelativeConfig {
    /// Distances from half the span on share buckets that grow with them. In f32, as transformers computes it.
    fn bucket(&self, distance: i64) -> i64 {
        let (Some(farthest), middle) = (self.bucketed_to, self.span as i64 / 2) else { return distance };
        if distance.abs() <= middle {
            return distance;
        }
        let ratio = |distance: i64| (distance as f32 / middle as f32).ln();
        let share = ratio(distance.abs()) / ratio(farthest as i64 - 1);
        let bucket = (share * (middle - 1) as f32).ceil() as i64 + middle;
        bucket * distance.signum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of transformers' `make_log_bucket_position`.
    #[test]
    fn buckets_are_those_of_transformers() {
        let relative = |span| RelativeConfig {
            span,
            bucketed_to: Some(512),
            content_to_position: true,
            position_to_content: true,
            shared: true,
            normed: true,
        };
        let distances = [-600, -511, -100, -9, -8, -1, 0, 5, 7, 8, 9, 17, 40, 127, 128, 129, 200, 300, 511, 512];
        let of_16 = [-16, -15, -13, -9, -8, -1, 0, 5, 7, 8, 9, 10, 11, 13, 13, 13, 14, 15, 15, 16];
        assert_eq!(distances.map(|distance| relative(16).bucket(distance)), of_16);
        let of_256 = [-270, -255, -100, -9, -8, -1, 0, 5, 7, 8, 9, 17, 40, 127, 128, 129, 169, 207, 255, 256];
        assert_eq!(distances.map(|distance| relative(256).bucket(distance)), of_256);
        for (span, sum, weighted) in [(16, 7019, 1_904_802), (32, 13_824, 3_832_739), (256, 87_297, 27_457_213)] {
            let buckets = (0..512).map(|distance| relative(span).bucket(distance));
            assert_eq!(buckets.clone().sum::<i64>(), sum);
            assert_eq!(buckets.zip(0..512).map(|(bucket, distance)| bucket * distance).sum::<i64>(), weighted);
        }
    }
}
