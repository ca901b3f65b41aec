package trade

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeReadsWhatAppendJSONWrites(t *testing.T) {
	want := Trade{"T-1", 7, "CP.1", "B_1", 22000, 20000}
	got, invalid := Decode(AppendJSON(nil, &want))
	require.Nil(t, invalid)
	require.Equal(t, want, got)
}
