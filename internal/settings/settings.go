// Package settings reads the defaults of configuration structs from their tags, and collects the mistakes in them.
package settings

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Defaults returns a T whose flags have the defaults of their tags; every other field is zero. It panics when a tag
// cannot be read, which every start of the program would show.
func Defaults[T any]() T {
	var config T
	parser, err := kong.New(&config, kong.ExplicitGroups(nil))
	if err != nil {
		panic(fmt.Sprintf("cannot read the tags of %T: %v", config, err))
	}
	parsed, err := kong.Trace(parser, nil)
	if err == nil {
		err = parsed.ApplyDefaults()
	}
	if err != nil {
		panic(fmt.Sprintf("cannot apply the defaults of %T: %v", config, err))
	}
	return config
}

// Mistakes collects what is wrong with a configuration, so that one start shows all of it. Each one begins with its
// flag.
type Mistakes []error

// Add adds err, which may hold several mistakes, one per line. It ignores nil.
func (m *Mistakes) Add(err error) {
	if err != nil {
		*m = append(*m, err)
	}
}

// Addf adds a mistake.
func (m *Mistakes) Addf(format string, args ...any) { *m = append(*m, fmt.Errorf(format, args...)) }

// Err returns the mistakes, one per line, or nil.
func (m *Mistakes) Err() error { return errors.Join(*m...) }

// OneOf demands that value is in the list.
func (m *Mistakes) OneOf(flag, value string, list ...string) {
	if !slices.Contains(list, value) {
		m.Addf("%s: %q is not one of %s", flag, value, strings.Join(list, ", "))
	}
}

// Address demands host:port. A listener may leave the host out (every interface) and take port 0 (any free one).
func (m *Mistakes) Address(flag, value string, listener bool) {
	host, port, err := net.SplitHostPort(value)
	number, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || !listener && (host == "" || number == 0) {
		m.Addf("%s: %q is not host:port, like 127.0.0.1:8000", flag, value)
	}
}

// Between demands lowest <= value <= highest of the flag.
func Between[T cmp.Ordered](m *Mistakes, flag string, value, lowest, highest T) {
	if value < lowest || value > highest {
		m.Addf("%s: %v is not between %v and %v", flag, value, lowest, highest)
	}
}
