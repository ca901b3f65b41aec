package telemetry

import (
	"net/http"
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ofRuntime matches the metrics of the Go runtime that are added to the default ones: how long a runnable goroutine
// waits for a core, and how much of the CPU time the garbage collector takes.
var ofRuntime = regexp.MustCompile(`^/(sched/latencies:seconds|cpu/classes/(gc/)?total:cpu-seconds)$`)

// NewRegistry returns a registry with the metrics of the Go runtime, the process and the build. Each role has its own,
// so that two roles in one process can register the same names.
func NewRegistry() *prometheus.Registry {
	build := ReadBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "tradestore_build_info",
		Help:        "Always 1; the labels tell which build is running.",
		ConstLabels: prometheus.Labels{"version": build.Version, "commit": build.Commit, "go": build.Go},
	})
	info.Set(1)
	reg := prometheus.NewRegistry()
	rule := collectors.GoRuntimeMetricsRule{Matcher: ofRuntime}
	runtime := collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(rule))
	reg.MustRegister(runtime, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return reg
}

// maxScrapes bounds how many scrapes are answered at once; one more gets 503. A scrape walks every series.
const maxScrapes = 4

// Handler answers scrapes of reg, in the requested format: protobuf has the native histograms. A collector that fails
// is left out and counted, and does not hide the others.
func Handler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		Registry:            reg,
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	})
}
