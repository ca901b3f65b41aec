package dashboards

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// decodeStrictly reads a file of settings. A key that into does not have is an error: no test starts what reads it.
func decodeStrictly(t *testing.T, path string, into any) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(into), path)
}

type collectorSettings struct {
	Receivers struct {
		OTLP struct {
			Protocols map[string]struct{ Endpoint string }
		}
		Filelog struct {
			Include   []string
			Operators []map[string]any
		}
	}
	Processors struct {
		MemoryLimiter struct {
			CheckInterval string `yaml:"check_interval"`
			LimitMiB      int    `yaml:"limit_mib"`
		} `yaml:"memory_limiter"`
		Batch struct{}
	}
	Exporters struct {
		OTLP struct {
			Endpoint string
			TLS      struct{ Insecure bool }
		}
		OTLPHTTP struct{ Endpoint string }
	}
	Service struct {
		Telemetry struct{ Metrics struct{ Readers []any } }
		Pipelines map[string]struct{ Receivers, Processors, Exporters []string }
	}
}

type lokiSettings struct {
	AuthEnabled bool `yaml:"auth_enabled"`
	Analytics   struct {
		ReportingEnabled bool `yaml:"reporting_enabled"`
	}
	Server       listener
	Common       map[string]any
	SchemaConfig struct{ Configs []map[string]any } `yaml:"schema_config"`
	Compactor    map[string]any
	LimitsConfig struct {
		RetentionPeriod string `yaml:"retention_period"`
		OTLPConfig      struct {
			ResourceAttributes struct {
				IgnoreDefaults   bool `yaml:"ignore_defaults"`
				AttributesConfig []struct {
					Action     string
					Attributes []string
				} `yaml:"attributes_config"`
			} `yaml:"resource_attributes"`
		} `yaml:"otlp_config"`
	} `yaml:"limits_config"`
}

type tempoSettings struct {
	UsageReport struct {
		ReportingEnabled bool `yaml:"reporting_enabled"`
	} `yaml:"usage_report"`
	Stream      bool `yaml:"stream_over_http_enabled"`
	Server      listener
	Distributor struct {
		Receivers struct {
			OTLP struct {
				Protocols map[string]struct{ Endpoint string }
			}
		}
	}
	Compactor struct{ Compaction map[string]string }
	Storage   struct {
		Trace struct {
			Backend    string
			WAL, Local struct{ Path string }
		}
	}
}

type listener struct {
	Port  int    `yaml:"http_listen_port"`
	Level string `yaml:"log_level"`
}

// The labels of a line in Loki are those that docs/logs.md names, the same in the collector, which makes them, and in
// Loki, which would keep others out of its index; and spans go where Tempo listens.
func TestLogsAndTracesArriveWhereTheyAreLookedFor(t *testing.T) {
	var collector collectorSettings
	var loki lokiSettings
	var tempo tempoSettings
	decodeStrictly(t, "collector.yaml", &collector)
	decodeStrictly(t, "loki.yaml", &loki)
	decodeStrictly(t, "tempo.yaml", &tempo)

	var made []string
	for _, operator := range collector.Receivers.Filelog.Operators {
		for _, key := range []string{"to", "field"} {
			to, _ := operator[key].(string)
			if label := regexp.MustCompile(`^resource\["(.*)"\]$`).FindStringSubmatch(to); label != nil {
				made = append(made, label[1])
			}
		}
	}
	kept := loki.LimitsConfig.OTLPConfig.ResourceAttributes
	require.Len(t, kept.AttributesConfig, 1)
	assert.True(t, kept.IgnoreDefaults)
	assert.Equal(t, "index_label", kept.AttributesConfig[0].Action)
	assert.ElementsMatch(t, kept.AttributesConfig[0].Attributes, made)
	assert.Subset(t, made, []string{"role", "level"})

	assert.Equal(t, "http://loki:3100/otlp", collector.Exporters.OTLPHTTP.Endpoint)
	assert.Equal(t, 3100, loki.Server.Port)
	assert.Equal(t, "tempo:4317", collector.Exporters.OTLP.Endpoint)
	assert.Equal(t, "0.0.0.0:4317", tempo.Distributor.Receivers.OTLP.Protocols["grpc"].Endpoint, "its default is loopback")
	assert.Equal(t, "0.0.0.0:4318", collector.Receivers.OTLP.Protocols["http"].Endpoint)
	assert.Equal(t, []string{"filelog"}, collector.Service.Pipelines["logs"].Receivers)
	assert.Equal(t, []string{"otlphttp"}, collector.Service.Pipelines["logs"].Exporters)
	assert.Equal(t, []string{"otlp"}, collector.Service.Pipelines["traces"].Receivers)
	assert.Equal(t, []string{"otlp"}, collector.Service.Pipelines["traces"].Exporters)
}
