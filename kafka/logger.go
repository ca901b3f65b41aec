package kafka

import (
	"fmt"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"
)

// logger writes the log lines of the client through zerolog. They name brokers, topics and partitions, never records.
type logger struct{ log zerolog.Logger }

var levels = map[kgo.LogLevel]zerolog.Level{
	kgo.LogLevelError: zerolog.WarnLevel, // the client retries by itself; what it can't repair comes back as an error
	kgo.LogLevelWarn:  zerolog.WarnLevel,
	kgo.LogLevelInfo:  zerolog.DebugLevel,
}

// Level returns the most detailed level that is logged.
func (l logger) Level() kgo.LogLevel {
	if l.log.GetLevel() <= zerolog.DebugLevel {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log writes one line; keyvals alternate between names and values.
func (l logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	event := l.log.WithLevel(levels[level])
	for i := 0; i+1 < len(keyvals); i += 2 {
		event = event.Str(fmt.Sprint(keyvals[i]), fmt.Sprint(keyvals[i+1]))
	}
	event.Msg("kafka: " + msg)
}
