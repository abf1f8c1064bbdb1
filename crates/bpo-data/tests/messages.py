"""Writes messages.parquet, as the datasets library would: lists of structs, a column with a null, zstd."""

import pyarrow as pa
import pyarrow.parquet as pq

turns = lambda answer: [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]
table = pa.table({
    "chosen": [turns("a")] * 3,
    "rejected": [turns("b")] * 3,
    "score": [1.0, None, 2.0],
    "id": [1, 2, 3],
})
pq.write_table(table, "messages.parquet", compression="zstd")
