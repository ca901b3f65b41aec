package loadtest

import (
	"net"
	"net/url"
	"strconv"
)

// endpoints are the addresses, host:port, of the system under test. Some may be on this machine.
type endpoints struct {
	roles  []string // they have metrics
	stores []store
}

// store is a service behind the roles.
type store struct {
	name      string
	addresses []string
}

// localPorts returns the ports of the addresses on this machine.
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

// isLocalHost does not use DNS: it takes a name that only DNS maps to this machine for another machine.
func isLocalHost(host string) bool {
	return host == "localhost" || isLocal(net.ParseIP(host))
}

// isLocal says whether an address belongs to this machine.
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

// hostPort returns host and port of a URL, with a default port.
func hostPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}
