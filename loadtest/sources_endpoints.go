package loadtest

import (
	"net"
	"net/url"
	"strconv"
)

// places are the addresses, host:port, of what a run tests. Some of them may be on this machine.
type endpoints struct {
	roles  []string // measured by their own metrics
	stores []store
}

// store is a service behind the roles.
type store struct {
	name      string
	addresses []string
}

// localPorts returns the ports of those addresses that are on this machine.
func localPorts(addresses []string) []uint64 {
	var ports []uint64
	for _, address := range addresses {
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			continue
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err == nil && isLocalHost(host) {
			ports = append(ports, port)
		}
	}
	return ports
}

// isLocalHost resolves nothing: a name that stands for this machine by DNS alone is taken for another one.
func isLocalHost(host string) bool {
	return host == "localhost" || isLocal(net.ParseIP(host))
}

// isLocal says whether an address is one of this machine's.
func isLocal(ip net.IP) bool {
	if ip == nil || ip.IsLoopback() {
		return ip != nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, address := range own {
		if network, ok := address.(*net.IPNet); ok && network.IP.Equal(ip) {
			return true
		}
	}
	return false
}

// hostPort returns the address that a URL leads to.
func hostPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}
