package embedded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeServer makes a folder with a program that says to be a server.
func fakeServer(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho '" + version + "'\n"
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700))
	}
	return dir
}

func TestInspect(t *testing.T) {
	f := func(says, version string, major int) {
		t.Helper()
		b, err := inspect(t.Context(), fakeServer(t, says))
		if major == 0 {
			assert.ErrorContains(t, err, "cannot tell the version")
			return
		}
		assert.NoError(t, err)
		assert.Equal(t, version, b.version)
		assert.Equal(t, major, b.major)
	}
	f("postgres (PostgreSQL) 16.15", "16.15", 16)
	f("postgres (PostgreSQL) 15.13 (Debian 15.13-1)", "15.13", 15)
	f("postgres (PostgreSQL) 18beta1", "18beta1", 18)
	f("postgres (PostgreSQL) devel", "", 0)
	f("mysqld 8", "", 0)
	f("postgres (PostgreSQL) 99999999999999999999", "", 0)

	_, err := inspect(t.Context(), t.TempDir())
	assert.ErrorContains(t, err, "no PostgreSQL server")
	broken := fakeServer(t, "")
	require.NoError(t, os.WriteFile(filepath.Join(broken, "postgres"), []byte("#!/bin/sh\necho no library >&2; exit 1\n"),
		0o700))
	_, err = inspect(t.Context(), broken)
	assert.ErrorContains(t, err, "no library")
}

func TestInstalled(t *testing.T) {
	t.Setenv("PATH", fakeServer(t, "postgres (PostgreSQL) 99.1")+":"+os.Getenv("PATH"))
	best, err := installed(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, 99, best.major, "the newest wins")
	same, err := installed(t.Context(), 99)
	require.NoError(t, err)
	require.Equal(t, best, same)
	_, err = installed(t.Context(), 98)
	require.ErrorContains(t, err, "data is of PostgreSQL 98")
}

func TestNoDownloadFallsBackToWhatIsInstalled(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // nobody listens there
	cache := openDir(t)
	have, missing := installed(t.Context(), 0)
	dir := openDir(t)
	p, err := start(t, Config{Dir: dir, CacheDir: cache})
	if missing != nil {
		require.ErrorContains(t, err, "cannot download PostgreSQL")
		require.ErrorContains(t, err, "no PostgreSQL 15 or newer is installed")
		return
	}
	require.NoError(t, err)
	require.Equal(t, have.version, p.Version())
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(cache, "lock")}, left, "a failed download leaves nothing")
	p.Stop()

	t.Setenv("HTTPS_PROXY", "") // the data decides, whatever can be downloaded now
	p = mustStart(t, dir)
	require.Equal(t, have.major, p.bin.major)
}

func TestStagingsOfKilledDownloadsAreDropped(t *testing.T) {
	cache := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(cache, "download-1", "postgres"), 0o700))
	require.NoError(t, dropStagings(cache))
	require.NoDirExists(t, filepath.Join(cache, "download-1"))
}

func TestHelperIsGuarded(t *testing.T) {
	helperReady = false
	defer func() { helperReady = true }()
	require.ErrorContains(t, runHelper(t.Context(), account{}, t.TempDir()), "MaybeHelper")
}

func TestDefaultCacheDir(t *testing.T) {
	t.Setenv("TRADESTORE_CACHE_DIR", "/somewhere")
	require.Equal(t, "/somewhere", DefaultCacheDir())
	t.Setenv("TRADESTORE_CACHE_DIR", "")
	require.Contains(t, DefaultCacheDir(), "tradestore")
}

func TestUnpackedFilesBecomeTheCallers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root unpacks as somebody else")
	}
	as, err := serverAccount("")
	require.NoError(t, err)
	tree := t.TempDir()
	file := filepath.Join(tree, "postgres")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, as.own(file))
	require.NoError(t, disown(tree))
	owner, ok := ownerOf(file)
	require.True(t, ok)
	require.Zero(t, owner.uid)
	require.Error(t, disown(filepath.Join(tree, "missing")))
	require.Error(t, as.own(filepath.Join(tree, "missing")))
}
