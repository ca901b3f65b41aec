package loadtest

import (
	"testing"

	"tradestore/teststack"
)

func TestMain(m *testing.M) { teststack.Main(m) }
