package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// runtimeAndCapacity shows the remaining capacity and the next bottleneck.
var runtimeAndCapacity = page{
	file: "runtime-capacity", uid: "tradestore-runtime", title: "Trade Store: runtime and capacity", since: "now-6h",
	refresh:   "30s",
	about:     "The remaining capacity as measured by the load test, the next bottleneck, and the state of the processes.",
	variables: []cog.Builder[dashboard.VariableModel]{capacity},
	rows: []row{
		{"How much room is left?", []panel{
			number("Accepted", tradesPerSecond, built(),
				"Trades accepted per second, over all servers.",
				q("accepted", accepted)),
			number("Capacity used", units.PercentUnit, above(0.6, 0.8),
				"Accepted trades as a share of the capacity at the top of this dashboard.",
				q("used", accepted+` / $capacity`)),
			number("Room left", tradesPerSecond, below(1000, 100),
				"Trades per second that can be added before the objectives fail, if the capacity at the top of this dashboard "+
					"is right.",
				q("left", `$capacity - `+accepted)),
			number("Stopped or not ready", units.Short, never(),
				"Workers that are not ready or stopped after a failed check, and processes that are down.",
				q("workers not ready", `count(tradestore_worker_ready{@} == 0) or vector(0)`),
				q("loud stops", `sum(tradestore_worker_stopped{@})`),
				q("down", `count(up{@} == 0) or vector(0)`)).alert("TradestoreLoudStop", "TradestoreTargetDown",
				"TradestoreAbsent"),
		}},
		{"What fills up first?", []panel{
			lines("Use of what is limited", units.PercentUnit, above(0.7, 0.9),
				"Use of each limited resource. The highest line is the bottleneck: raise its limit or add processes. Of "+
					"several processes the highest value counts.",
				q("capacity", accepted+` / $capacity`),
				q("accept queue", `max(tradestore_accept_in_flight{@} / tradestore_accept_in_flight_limit{@})`),
				q("connections", `max(tradestore_http_connections{@} / tradestore_http_connections_limit{@})`),
				q("PostgreSQL pool {{pool}}", `max by (pool) (sum by (instance, pool) `+
					`(tradestore_postgres_pool_connections{@,state="in_use"}) / sum by (instance, pool) `+
					`(tradestore_postgres_pool_connections_limit{@}))`),
				q("lanes", `max(`+busy+`)`),
				q("processor", `max(rate(process_cpu_seconds_total{@}[$__rate_interval]) / go_sched_gomaxprocs_threads{@})`),
				q("descriptors", `max(process_open_fds{@} / process_max_fds{@})`)),
		}},
		{"Cores", []panel{
			lines("Processor", cores, above(2, 4),
				"Cores used by each process. One core accepts and stores about 15,000 to 20,000 trades per second: see "+
					"bench/RESULTS.md.",
				q("{{job}} {{instance}}", `rate(process_cpu_seconds_total{@}[$__rate_interval])`)),
			lines("Cost of a trade", units.Seconds, unjudged(),
				"Processor time of all servers and workers per accepted trade. About 50 µs under full load. Under low load "+
					"each trade costs more.",
				q("per trade", `sum(rate(process_cpu_seconds_total{@}[$__rate_interval])) / (`+accepted+` > 0)`)),
			lines("Garbage collection", units.PercentUnit, above(0.1, 0.25),
				"Share of the processor time used for garbage collection.",
				q("{{job}} {{instance}}", `rate(go_cpu_classes_gc_total_cpu_seconds_total{@}[$__rate_interval]) / `+
					`(rate(go_cpu_classes_total_cpu_seconds_total{@}[$__rate_interval]) > 0)`)),
			lines("Wait for a core", units.Seconds, above(0.005, 0.05),
				"The 99th percentile of the time that runnable goroutines wait. It grows when the machine has too few cores.",
				slowest("{{job}} {{instance}}", "go_sched_latencies_seconds", "job, instance")),
		}},
		{"Memory", []panel{
			lines("Resident", units.BytesIEC, above(150<<20, 512<<20),
				"Memory of each process. Under the sustained load of bench/RESULTS.md it stays below 150 MiB.",
				q("{{job}} {{instance}}", `process_resident_memory_bytes{@}`)),
			lines("Heap in use", units.BytesIEC, above(100<<20, 400<<20),
				"Bytes of objects on the heap. Constant growth is a leak.",
				q("{{job}} {{instance}}", `go_memstats_heap_inuse_bytes{@}`)),
			lines("Allocated", units.BytesPerSecondIEC, unjudged(),
				"Bytes allocated per second: the work of the garbage collector.",
				q("{{job}} {{instance}}", `rate(go_memstats_alloc_bytes_total{@}[$__rate_interval])`)),
			lines("Pauses", units.Seconds, above(0.05, 0.5),
				"The longest of the recent garbage collector pauses.",
				q("{{job}} {{instance}}", `max by (job, instance) (go_gc_duration_seconds{@,quantile=~"1.*"})`)),
		}},
		{"Process", []panel{
			lines("Goroutines", units.Short, above(10_000, 50_000),
				"A server has a few per connection. Constant growth is a leak.",
				q("{{job}} {{instance}}", `go_goroutines{@}`)),
			lines("Descriptors", units.PercentUnit, above(0.7, 0.9),
				"Open files and sockets as a share of the limit of the process.",
				q("{{job}} {{instance}}", `process_open_fds{@} / process_max_fds{@}`)),
			number("Running since", units.Seconds, below(600, 60),
				"Time since the start of each process. A low value means a restart.",
				q("{{job}} {{instance}}", `time() - process_start_time_seconds{@}`)).alert("TradestoreLoudStop"),
			number("Builds", units.Short, unjudged(),
				"Processes by version. Two versions are normal only during a release.",
				q("{{version}}, {{go}}", `count by (version, go) (tradestore_build_info{@})`)),
		}},
	},
}

// knee is the capacity of the embedded stack on two cores, in trades per second: the last sustained rate in "Capacity"
// of bench/RESULTS.md. A test compares the two.
const knee = "14398"

// capacity is a property of a deployment: each operator enters the value that the load test found.
var capacity = dashboard.NewTextBoxVariableBuilder("capacity").Label("Capacity, trades/s").
	Description("Trades accepted per second at the highest rate that `tradestore loadtest --find-capacity` found " +
		"sustained. " +
		"The default is that of `make run` on two cores, see Capacity in bench/RESULTS.md. Enter the value of your " +
		"deployment.").
	DefaultValue(text(knee)).Current(option(knee))
