package stack

import (
	"cmp"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"tradestore/test/stack/services"
)

// verdict is a test that notes how it would have ended.
type verdict struct {
	testing.TB
	end string
}

func (*verdict) Helper() {}

func (v *verdict) Fatal(...any) { v.end = cmp.Or(v.end, "failed") }
func (v *verdict) Skip(...any)  { v.end = cmp.Or(v.end, "skipped") }

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
	noServer, noJava := fmt.Errorf("%w: because", errNoPostgres), fmt.Errorf("because: %w", services.ErrMissing)
	f("", noServer, "skipped")
	f("false", noServer, "skipped")
	f("true", noServer, "failed")
	f("", noJava, "skipped")
	f("true", noJava, "failed")
	f("", errors.New("it is there and does not work"), "failed")
}
