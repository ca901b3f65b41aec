// Package telemetry sets up the log, the metric registry and traces of a role, and the identity of the build. The
// metrics themselves are next to the code that counts.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// Levels and Formats are what NewLogger takes, as shown in the help of --log-level and --log-format.
const (
	Levels  = "debug, info, warn, error"
	Formats = "auto, json, pretty"
)

// timeFormat is RFC 3339 with milliseconds: fixed width, so that lines sort as text.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// zerolog keeps the format of times in package variables. They are set here once, before any logger exists, so that
// lines are in UTC whatever the machine's time zone is.
func init() {
	zerolog.TimeFieldFormat = timeFormat
	zerolog.TimestampFunc = func() time.Time { return time.Now().UTC() }
}

// NewLogger returns a logger that writes one line per event to w. level is the lowest level that is written. format is
// json (one object per line), pretty (for people) or auto: pretty when w is a terminal, json otherwise.
// The error names every argument that has another value.
func NewLogger(w io.Writer, level, format string) (zerolog.Logger, error) {
	if err := CheckLog(level, format); err != nil {
		return zerolog.Nop(), err
	}
	if format == "pretty" || format == "auto" && isTerminal(w) {
		plain := !isTerminal(w) || os.Getenv("NO_COLOR") != ""
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: timeFormat, TimeLocation: time.UTC, NoColor: plain}
	}
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Nop(), fmt.Errorf("cannot read log level: %w", err)
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}

// CheckLog returns an error that lists what is wrong with the settings of a log, one line each.
func CheckLog(level, format string) error {
	return errors.Join(oneOf("--log-level", level, Levels), oneOf("--log-format", format, Formats))
}

func oneOf(flag, value, list string) error {
	if slices.Contains(strings.Split(list, ", "), value) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %s", flag, value, list)
}

// linesPerSecond bounds each kind of line that many requests, or an outage, could repeat.
const linesPerSecond = 20

// Sampled returns a logger for lines of one kind whose number depends on input: it writes the first few of each second.
// The metrics count all of the events.
func Sampled(log zerolog.Logger) zerolog.Logger {
	return log.Sample(&zerolog.BurstSampler{Burst: linesPerSecond, Period: time.Second})
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
