package teststack

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

// verdict is a test that notes how it would have ended.
type verdict struct {
	testing.TB
	end string
}

func (*verdict) Helper()                {}
func (v *verdict) Fatal(...any)         { v.end = "failed" }
func (v *verdict) Skipf(string, ...any) { v.end = "skipped" }

func TestRequire(t *testing.T) {
	f := func(ci string, err error, want string) {
		t.Helper()
		t.Setenv("CI", ci)
		v := verdict{TB: t}
		require(&v, err)
		assert.Equal(t, want, v.end)
	}
	f("", nil, "")
	f("true", nil, "")
	f("", errors.New("no server"), "skipped")
	f("false", errors.New("no server"), "skipped")
	f("true", errors.New("no server"), "failed")
}
