package telemetry

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

func TestLoggerWritesOneJSONObjectPerLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := NewLogger(&out, "info", "auto")
	require.NoError(t, err)
	log.Debug().Msg("below the level")
	log.Info().Str("topic", "trades-inbound").Time("at", time.Date(2026, 7, 1, 12, 0, 0, 5e6, time.UTC)).Msg("hello")

	var line map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &line),
		"a buffer is no terminal, so auto is JSON, and only one line is written")
	require.Equal(t, "info", line["level"])
	require.Equal(t, "hello", line["message"])
	require.Equal(t, "trades-inbound", line["topic"])
	require.Equal(t, "2026-07-01T12:00:00.005Z", line["at"])
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, line["time"], "UTC, whole milliseconds")
}

func TestPrettyIsForPeople(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := NewLogger(&out, "warn", "pretty")
	require.NoError(t, err)
	log.Warn().Str("topic", "trades-inbound").Msg("hello")
	require.Regexp(t, `^\S+Z WRN hello topic=trades-inbound\n$`, out.String(), "no colour codes outside a terminal")
}

func TestLevels(t *testing.T) {
	t.Parallel()
	f := func(level string, want zerolog.Level) {
		t.Helper()
		log, err := NewLogger(&bytes.Buffer{}, level, "json")
		require.NoError(t, err)
		require.Equal(t, want, log.GetLevel())
	}
	f("debug", zerolog.DebugLevel)
	f("info", zerolog.InfoLevel)
	f("warn", zerolog.WarnLevel)
	f("error", zerolog.ErrorLevel)
}

func TestLoggerRefusesUnknownSettings(t *testing.T) {
	t.Parallel()
	f := func(level, format string, want ...string) {
		t.Helper()
		_, err := NewLogger(&bytes.Buffer{}, level, format)
		for _, text := range want {
			require.ErrorContains(t, err, text)
		}
	}
	f("loud", "json", "--log-level", "loud", "debug, info, warn, error")
	f("", "json", "--log-level")
	f("info", "xml", "--log-format", "xml", "auto, json, pretty")
	f("INFO", "JSON", "--log-level", "--log-format")
}

func TestBuildIsCompletedFromTheGoTool(t *testing.T) {
	t.Parallel()
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	set := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	f := func(given Build, info *debug.BuildInfo, want Build) {
		t.Helper()
		require.Equal(t, want, describe(given, info))
	}
	f(Build{Go: "go1"}, info(""), Build{"dev", "unknown", "unknown", "go1"})
	f(Build{Go: "go1"}, info("(devel)"), Build{"dev", "unknown", "unknown", "go1"})
	f(Build{Go: "go1"}, info("v1.0.0"), Build{"v1.0.0", "unknown", "unknown", "go1"})
	f(Build{"v2", "abc", "today", "go1"}, info("v1.0.0", set("vcs.revision", "def")), Build{"v2", "abc", "today", "go1"})
	revision := set("vcs.revision", "def")
	f(Build{Go: "go1"}, info("", revision, set("vcs.time", "then"), set("vcs.modified", "false")),
		Build{"dev", "def", "then", "go1"})
	f(Build{Go: "go1"}, info("", revision, set("vcs.modified", "true")), Build{"dev", "def-dirty", "unknown", "go1"})

	require.Equal(t, runtime.Version(), ReadBuild().Go)
}

func TestRegistryIsServed(t *testing.T) {
	t.Parallel()
	reg := NewRegistry()
	problems, err := testutil.GatherAndLint(reg, "tradestore_build_info")
	require.NoError(t, err)
	require.Empty(t, problems)

	answer := httptest.NewRecorder()
	Handler(reg).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	require.Contains(t, answer.Body.String(), `tradestore_build_info{commit="`)
	require.Contains(t, answer.Body.String(), `go="`+runtime.Version()+`"`)
	require.Contains(t, answer.Body.String(), "go_goroutines ")
	require.Contains(t, answer.Body.String(), "go_sched_latencies_seconds_bucket")
	require.Contains(t, answer.Body.String(), "go_cpu_classes_gc_total_cpu_seconds_total ")
	require.Contains(t, answer.Body.String(), "go_cpu_classes_total_cpu_seconds_total ")
	if _, err := os.Stat("/proc/self/stat"); err == nil {
		require.Contains(t, answer.Body.String(), "process_open_fds ")
	}
}

func TestTwoRolesInOneProcessDoNotClash(t *testing.T) {
	t.Parallel()
	require.NotPanics(t, func() { NewRegistry(); NewRegistry() })
}

func TestFamiliesAreRegisteredTogether(t *testing.T) {
	t.Parallel()
	var f Families
	f.Counter("requests_total", "Requests.").Inc()
	f.Counters("errors_total", "Errors.", "cause").WithLabelValues("disk").Inc()
	f.CountersOf("failures_total", "Failures.", "part", "disk", "network")["disk"].Inc()
	f.Gauge("room_bytes", "Room.").Set(1)
	f.Gauges("up", "Up.", "check").WithLabelValues("disk").Set(1)
	f.GaugeFunc("open_files", "Files.", func() float64 { return 3 })
	f.Histogram("wait_seconds", "Wait.", Durations).Observe(.07)
	f.Histograms("age_seconds", "Age.", Ages, "stage").WithLabelValues("poll").Observe(70)
	reg := prometheus.NewRegistry()
	require.NoError(t, f.Register(reg, "the test"))
	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 8)
	for _, family := range families {
		if h := family.GetMetric()[0].GetHistogram(); h != nil {
			require.NotEmpty(t, h.GetBucket(), "%s is a classic histogram", family.GetName())
			require.NotEmpty(t, h.GetPositiveSpan(), "%s is a native histogram", family.GetName())
		}
	}
	require.ErrorContains(t, f.Register(reg, "the test"), "cannot register the metrics of the test")
}

// The objectives use these limits, and an alert rule can name a classic bucket only if it exists.
func TestBucketsHaveTheLimitsOfTheObjectives(t *testing.T) {
	t.Parallel()
	require.Contains(t, Durations, .1)
	require.Contains(t, Ages, 1.)
	require.True(t, slices.IsSorted(Durations) && slices.IsSorted(Ages) && slices.IsSorted(Sizes))
}
