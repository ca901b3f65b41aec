package embedded

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAsOrdinaryUser runs tests of this package once more, as a user without rights.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests are of an ordinary user already")
	}
	mustStart(t, openDir(t)).Stop() // fills the cache, which is root's
	as, err := serverAccount("")
	require.NoError(t, err)
	dir := openDir(t)
	require.NoError(t, as.own(dir))
	cmd := exec.Command("/proc/self/exe", "-test.v",
		"-test.run", "^(TestDataStaysOverARestart|TestOrphanIsStopped|TestOthersData)$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "TRADESTORE_CACHE_DIR="+DefaultCacheDir(),
		"EMBEDDED_TEST_ROOTS="+openDir(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as.credential()}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "--- PASS: TestDataStaysOverARestart")
	require.Contains(t, string(out), "--- PASS: TestOthersData")
}

func TestOthersData(t *testing.T) {
	roots := os.Getenv("EMBEDDED_TEST_ROOTS")
	if roots == "" {
		t.Skip("needs a folder of another user")
	}
	_, err := serverAccount(roots)
	require.ErrorContains(t, err, "belong to user 0")
}

func TestRootRunsDataAsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, 12345, 54321))
	as, err := serverAccount(dir)
	require.NoError(t, err)
	require.Equal(t, account{12345, 54321, true}, as)
	require.Equal(t, &syscall.Credential{Uid: 12345, Gid: 54321}, as.credential())
}

func TestRootsFolderClosedToOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user's server can go where the user can")
	}
	dir := filepath.Join(t.TempDir(), "closed")
	t.Cleanup(func() { os.RemoveAll(relocated(dir)) })
	p := mustStart(t, dir)
	require.Equal(t, relocated(dir), p.Dir())
	query(t, p, "CREATE TABLE kept AS SELECT 'yes'::text AS answer")
	p.Stop()

	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711)) // open now, but the note decides
	p = mustStart(t, dir)
	require.Equal(t, "yes", query(t, p, "SELECT answer FROM kept"))
	p.Stop()

	require.NoError(t, Remove(t.Context(), dir))
	require.NoDirExists(t, dir)
	require.NoDirExists(t, relocated(dir))
	require.NoError(t, Remove(t.Context(), dir), "nothing there is fine")
}

func TestRootsDataInAFolderThatWasClosed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user's server can go where the user can")
	}
	dir := filepath.Join(t.TempDir(), "closed") // t.TempDir is: no second, empty database must appear elsewhere
	data := filepath.Join(dir, "data")
	require.NoError(t, os.MkdirAll(data, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("16\n"), 0o600))
	_, err := start(t, Config{Dir: dir})
	require.ErrorContains(t, err, "can't enter "+dir)
	require.NoDirExists(t, relocated(dir))
}

func TestNoteCannotNameAnyPlace(t *testing.T) {
	dir := openDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, locationNote), []byte("/etc\n"), 0o600))
	_, err := start(t, Config{Dir: dir})
	require.ErrorContains(t, err, "outside "+elsewhere)
	require.Error(t, Remove(t.Context(), dir))
	require.DirExists(t, dir)
}

func TestRemoveStopsAnOrphan(t *testing.T) {
	dir := openDir(t)
	mustStart(t, filepath.Join(dir, "postgres")).Stop()
	h := startHolder(t, dir)
	h.kill(t)
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "postgres")))
	require.False(t, alive(h.server))
	require.NoDirExists(t, filepath.Join(dir, "postgres"))
}
