package embedded

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func listen(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

func TestChoosePort(t *testing.T) {
	note := filepath.Join(t.TempDir(), "port")
	first, err := choosePort(0, note)
	require.NoError(t, err)
	again, err := choosePort(0, note)
	require.NoError(t, err)
	require.Equal(t, first, again, "kept")

	require.NoError(t, os.WriteFile(note, []byte(strconv.Itoa(listen(t))), 0o600))
	other, err := choosePort(0, note)
	require.NoError(t, err)
	require.NotEqual(t, strconv.Itoa(other), note)
	require.True(t, free(other), "a kept port that is taken is given up")

	fixed, err := choosePort(first, note)
	require.NoError(t, err)
	require.Equal(t, first, fixed)
	_, err = choosePort(listen(t), note)
	require.ErrorIs(t, err, ErrPortTaken)

	require.NoError(t, os.WriteFile(note, []byte("-1 nonsense"), 0o600))
	_, err = choosePort(0, note)
	require.NoError(t, err)
	_, err = choosePort(0, filepath.Join(note, "no", "folder"))
	require.ErrorContains(t, err, "cannot note the port")
}

func TestPortTaken(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	_, err := start(t, Config{Dir: p.cfg.Dir, Port: listen(t)})
	require.ErrorIs(t, err, ErrPortTaken)
	_, err = StartKafka(KafkaConfig{Dir: t.TempDir(), Port: listen(t)})
	require.ErrorIs(t, err, ErrPortTaken)
}
