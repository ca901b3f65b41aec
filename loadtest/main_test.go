package loadtest

import (
	"testing"

	"tradestore/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }
