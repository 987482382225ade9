"""The simulator: the real loader, producer and replay over in-memory ports, every fault chosen by a seed, every row accounted for.

| what happens | where |
|---|---|
| crashes between effects | `scheduler`: crash before, crash after, every worker dies |
| crashes inside effects, partial batch results | `scheduler`: tear (any part of manifest, index, totals, PutRecords took place) |
| lost responses after the effect; requests that take place later | `scheduler`: lose answer, delay |
| throttles | `scheduler`: fail, and a service that refuses everything until budgets run out |
| partial failures of PutRecords | `producers`: the product's own producer, its receipts, and its death |
| duplicates from producers, and from re-reads | `events` (repeats), `producers` (sent again), `workers` (reread_rate, checkpoints) |
| two workers on one shard; zombies that write late | `scheduler`: steal_rate, suspend, the aftermath |
| lease moves; records that KCL fetched before | `workers`: the driver `kcl`; `fetching` |
| resharding to grandchildren | `world.reshard`; who may start says the product's `Shards` |
| clock jumps | `world.OwnClock`: one worker's wall clock, never its monotonic time |
| arbitrary cuts | `scenario` (limits), `workers` (any moment) |
| deploys between plan and finish | `world.code`: other limits, rules, schemas and tenants, worker by worker |
| several and recreated streams | `scenario`, `world` |

`monitor` looks after every effect, `oracle` and `packed` at the end, and `witness` asks the product's own audit. Replay and
redrive have simulators of their own (`replay`, `redrive`, their worlds, and `actors`), and `machine` lets Hypothesis choose the
steps. Each guard of the protocol can be switched off: `guards`, `replay_guards`, `redrive_guards`.
"""
