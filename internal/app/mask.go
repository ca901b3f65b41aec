package app

import (
	"net/url"
	"strings"
)

const masked = "xxxxx"

// Mask returns s as it may be printed: a URL without its passwords, in the user part and in the parameters alike.
// Any other text is returned as it is, unless it looks like a URL or a connection string that can't be taken apart.
func Mask(s string) string {
	secretive := strings.Contains(s, "://") || strings.Contains(strings.ToLower(s), "password")
	if !secretive {
		return s
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return masked
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return masked
	}
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, masked)
		}
	}
	u.RawQuery = query.Encode()
	return u.Redacted()
}
