package proc

import (
	"fmt"
	"os"
	"path/filepath"
)

// CacheDir is the folder for files of a kind that are fetched or built once: below TRADESTORE_CACHE_DIR if that is set,
// else below the cache folder of the user. It is not made.
func CacheDir(kind string) (string, error) {
	if dir := os.Getenv("TRADESTORE_CACHE_DIR"); dir != "" {
		return filepath.Join(dir, kind), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder, set TRADESTORE_CACHE_DIR: %w", err)
	}
	return filepath.Join(dir, "tradestore", kind), nil
}
