package dashboards

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// runtimeAndCapacity shows how much room is left, and what fills up first.
var runtimeAndCapacity = page{
	file: "runtime-capacity", uid: "tradestore-runtime", title: "Trade Store: runtime and capacity", since: "now-6h", refresh: "30s",
	about:     "How much room is left to the capacity that the load test found, what fills up first, and how the processes do.",
	variables: []cog.Builder[dashboard.VariableModel]{capacity},
	rows: []row{
		{"How much room is left?", []panel{
			number("Accepted", tradesPerSecond, built(),
				"Trades that are accepted now, by all servers together.",
				q("accepted", accepted)),
			number("Capacity used", units.PercentUnit, above(0.6, 0.8),
				"Accepted trades as a share of the capacity at the top of this dashboard.",
				q("used", accepted+` / $capacity`)),
			number("Room left", tradesPerSecond, below(1000, 100),
				"What more could be accepted until the objectives break, if the capacity at the top of this dashboard is right.",
				q("left", `$capacity - `+accepted)),
			number("Stopped or not ready", units.Short, never(),
				"Workers that are not ready or stopped because what they rely on does not hold, and processes that are down.",
				q("workers not ready", `count(tradestore_worker_ready{@} == 0) or vector(0)`),
				q("loud stops", `sum(tradestore_worker_stopped{@})`),
				q("down", `count(up{@} == 0) or vector(0)`)).alert("TradestoreLoudStop", "TradestoreTargetDown", "TradestoreAbsent"),
		}},
		{"What fills up first?", []panel{
			lines("Use of what is limited", units.PercentUnit, above(0.7, 0.9),
				"Each line is a limit that trades run into at 100 %. The highest of them binds: give it more, or more processes. Of several processes the fullest counts.",
				q("capacity", accepted+` / $capacity`),
				q("accept queue", `max(tradestore_accept_in_flight{@} / tradestore_accept_in_flight_limit{@})`),
				q("connections", `max(tradestore_http_connections{@} / tradestore_http_connections_limit{@})`),
				q("PostgreSQL pool {{pool}}", `max by (pool) (sum by (instance, pool) (tradestore_postgres_pool_connections{@,state="in_use"}) / sum by (instance, pool) (tradestore_postgres_pool_connections_limit{@}))`),
				q("lanes", `max(`+busy+`)`),
				q("processor", `max(rate(process_cpu_seconds_total{@}[$__rate_interval]) / go_sched_gomaxprocs_threads{@})`),
				q("descriptors", `max(process_open_fds{@} / process_max_fds{@})`)),
		}},
		{"Cores", []panel{
			lines("Processor", cores, above(2, 4),
				"Cores that each process uses. About 1 core accepts and stores 15,000 to 20,000 trades a second, bench/RESULTS.md has the figures.",
				q("{{job}} {{instance}}", `rate(process_cpu_seconds_total{@}[$__rate_interval])`)),
			lines("Cost of a trade", units.Seconds, unjudged(),
				"Processor time of all servers and workers for each accepted trade. About 50 µs under full load; the less there is to do, the more each one costs.",
				q("per trade", `sum(rate(process_cpu_seconds_total{@}[$__rate_interval])) / (`+accepted+` > 0)`)),
			lines("Garbage collection", units.PercentUnit, above(0.1, 0.25),
				"Share of the processor time that collects garbage.",
				q("{{job}} {{instance}}", `rate(go_cpu_classes_gc_total_cpu_seconds_total{@}[$__rate_interval]) / (rate(go_cpu_classes_total_cpu_seconds_total{@}[$__rate_interval]) > 0)`)),
			lines("Wait for a core", units.Seconds, above(0.005, 0.05),
				"The 99th percentile of the time that goroutines which could run waited. It grows when the machine has too few cores.",
				slowest("{{job}} {{instance}}", "go_sched_latencies_seconds", "job, instance")),
		}},
		{"Memory", []panel{
			lines("Resident", units.BytesIEC, above(150<<20, 512<<20),
				"Memory of each process. Under the sustained load of bench/RESULTS.md it stays below 150 MiB.",
				q("{{job}} {{instance}}", `process_resident_memory_bytes{@}`)),
			lines("Heap in use", units.BytesIEC, above(100<<20, 400<<20),
				"Bytes of objects on the heap. What only grows is a leak.",
				q("{{job}} {{instance}}", `go_memstats_heap_inuse_bytes{@}`)),
			lines("Allocated", units.BytesPerSecondIEC, unjudged(),
				"Bytes allocated: what the garbage collector has to work for.",
				q("{{job}} {{instance}}", `rate(go_memstats_alloc_bytes_total{@}[$__rate_interval])`)),
			lines("Pauses", units.Seconds, above(0.05, 0.5),
				"The longest pause of the garbage collector among the last ones.",
				q("{{job}} {{instance}}", `max by (job, instance) (go_gc_duration_seconds{@,quantile=~"1.*"})`)),
		}},
		{"Process", []panel{
			lines("Goroutines", units.Short, above(10_000, 50_000),
				"A server has a few for each connection. What only grows is a leak.",
				q("{{job}} {{instance}}", `go_goroutines{@}`)),
			lines("Descriptors", units.PercentUnit, above(0.7, 0.9),
				"Open files and sockets as a share of the most that the process may have.",
				q("{{job}} {{instance}}", `process_open_fds{@} / process_max_fds{@}`)),
			number("Running since", units.Seconds, below(600, 60),
				"Time since the start of each process. A small one was restarted.",
				q("{{job}} {{instance}}", `time() - process_start_time_seconds{@}`)).alert("TradestoreLoudStop"),
			number("Builds", units.Short, unjudged(),
				"Processes by what they run. Two versions are normal during a release only.",
				q("{{version}}, {{go}}", `count by (version, go) (tradestore_build_info{@})`)),
		}},
	},
}

// knee is what the embedded stack accepts on two cores at its capacity, in trades per second: the last rate that was
// sustained in "Capacity" of bench/RESULTS.md. A test compares the two.
const knee = "14398"

// capacity is what the load test found. It belongs to a deployment, so everyone enters their own.
var capacity = dashboard.NewTextBoxVariableBuilder("capacity").Label("Capacity, trades/s").
	Description("Trades accepted per second at the highest rate that `tradestore loadtest --find-capacity` finds sustained. The default is that of `make run` on two cores, see Capacity in bench/RESULTS.md: enter that of your deployment.").
	DefaultValue(text(knee)).Current(option(knee))
