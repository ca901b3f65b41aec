package telemetry

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// variable is one of the OTEL_* variables about traces, and the form of its value. The SDK ignores a value that it
// can't read, and would then trace with other settings than the operator wants.
type variable struct {
	name string
	form string // in words
	ok   func(value string) bool
}

var variables = slices.Concat(
	[]variable{
		choice("OTEL_SDK_DISABLED", "true", "false"),
		choice("OTEL_TRACES_EXPORTER", "otlp", "console", "none"),
		choice("OTEL_TRACES_SAMPLER", "always_on", "always_off", "traceidratio",
			"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
		{"OTEL_TRACES_SAMPLER_ARG", "a share from 0 to 1, like 0.01", isShare},
		{"OTEL_RESOURCE_ATTRIBUTES", aList, isList},
		{"OTEL_BSP_SCHEDULE_DELAY", aNumber, isNumber},
		{"OTEL_BSP_EXPORT_TIMEOUT", aNumber, isNumber},
		{"OTEL_BSP_MAX_QUEUE_SIZE", aNumber, isNumber},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", aNumber, isNumber},
	},
	ofOTLP("OTEL_EXPORTER_OTLP_"), ofOTLP("OTEL_EXPORTER_OTLP_TRACES_"),
)

// ofOTLP returns the variables of the OTLP exporter: for all signals, or for traces alone.
func ofOTLP(prefix string) []variable {
	return []variable{
		{prefix + "ENDPOINT", "a URL like http://127.0.0.1:4318", isEndpoint},
		choice(prefix+"PROTOCOL", "grpc", "http/protobuf"),
		{prefix + "HEADERS", aList, isList},
		{prefix + "TIMEOUT", aNumber, isNumber},
		choice(prefix+"COMPRESSION", "gzip", "none"),
		choice(prefix+"INSECURE", "true", "false"),
		{prefix + "CERTIFICATE", aFile, isFile},
		{prefix + "CLIENT_CERTIFICATE", aFile, isFile},
		{prefix + "CLIENT_KEY", aFile, isFile},
	}
}

const (
	aList   = "a list like name=value,name=value"
	aNumber = "a whole number above 0"
	aFile   = "a file that can be read"
)

// CheckTracing lists every OTEL_* variable about traces whose value can't be used, one per line; nil if there is none.
// Values are not quoted: some are secrets.
func CheckTracing() error {
	var wrong []error
	for _, v := range variables {
		if value := setting(v.name); value != "" && !v.ok(value) {
			wrong = append(wrong, fmt.Errorf("%s: not %s", v.name, v.form))
		}
	}
	return errors.Join(wrong...)
}

// setting returns the value of the first variable that has one. An empty variable counts as not set (OpenTelemetry
// specification, environment variables).
func setting(names ...string) string {
	for _, name := range names {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			return value
		}
	}
	return ""
}

// exporterChosen returns the name of the exporter: none unless a variable names an exporter or an endpoint.
func exporterChosen() string {
	name := strings.ToLower(setting("OTEL_TRACES_EXPORTER"))
	if strings.EqualFold(setting("OTEL_SDK_DISABLED"), "true") {
		return "none"
	}
	if name == "" && setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		return "otlp"
	}
	return cmp.Or(name, "none")
}

// newSampler makes the sampler of the variables, which CheckTracing has checked. Without OTEL_TRACES_SAMPLER it is
// parentbased_traceidratio, so that the share alone can be set. Without a share everything is sampled, as in the
// specification.
func newSampler() sdk.Sampler {
	share := 1.0
	if s := setting("OTEL_TRACES_SAMPLER_ARG"); s != "" {
		share, _ = strconv.ParseFloat(s, 64) // checked
	}
	switch strings.ToLower(setting("OTEL_TRACES_SAMPLER")) {
	case "always_on":
		return sdk.AlwaysSample()
	case "always_off":
		return sdk.NeverSample()
	case "traceidratio":
		return sdk.TraceIDRatioBased(share)
	case "parentbased_always_on":
		return sdk.ParentBased(sdk.AlwaysSample())
	case "parentbased_always_off":
		return sdk.ParentBased(sdk.NeverSample())
	}
	return sdk.ParentBased(sdk.TraceIDRatioBased(share))
}

func choice(name string, list ...string) variable {
	return variable{name, "one of " + strings.Join(list, ", "), func(value string) bool {
		return slices.Contains(list, strings.ToLower(value))
	}}
}

func isShare(value string) bool {
	share, err := strconv.ParseFloat(value, 64)
	return err == nil && share >= 0 && share <= 1
}

func isNumber(value string) bool {
	number, err := strconv.Atoi(value)
	return err == nil && number > 0
}

func isEndpoint(value string) bool {
	u, err := url.Parse(value)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func isList(value string) bool {
	for pair := range strings.SplitSeq(value, ",") {
		name, text, ok := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(text); !ok || strings.TrimSpace(name) == "" || err != nil {
			return false
		}
	}
	return true
}

func isFile(value string) bool {
	f, err := os.Open(value) //nolint:gosec // the operator names it
	if err != nil {
		return false
	}
	return f.Close() == nil
}
