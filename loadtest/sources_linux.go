package loadtest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

const (
	tick            = 100.0 // of CPU time, per second
	rediscoverEvery = 10 * time.Second

	tcpEstablished, tcpListen = 0x01, 0x0A
)

// localSources measure the machine and the stores that run on it: the metrics of the roles do not show them.
func localSources(at endpoints) []Source {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil
	}
	processes := &storeProcesses{fs: fs, endpoints: at}
	return []Source{
		{Name: "machine", Read: func(context.Context) ([]Reading, error) { return machineReadings(fs) }},
		{Name: "processes of this machine", Read: func(context.Context) ([]Reading, error) {
			return processes.read(time.Now())
		}},
	}
}

func machineReadings(fs procfs.FS) ([]Reading, error) {
	stat, err := fs.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the CPU time of the machine: %w", err)
	}
	t := stat.CPUTotal
	busy := t.User + t.Nice + t.System + t.IRQ + t.SoftIRQ + t.Steal
	return []Reading{{Name: machineCPU, Group: groupCPU, Unit: "cores", Value: busy, Total: true}}, nil
}

// processorName is the model of the CPU, or empty.
func processorName() string {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return ""
	}
	cores, err := fs.CPUInfo()
	if err != nil || len(cores) == 0 {
		return ""
	}
	return cores[0].ModelName
}

// storeProcesses finds the processes of the stores: those that listen on the given addresses, and those that the roles
// are connected to. A store may be a parent and its children.
type storeProcesses struct {
	fs         procfs.FS
	endpoints  endpoints
	stores     map[int]string // name by the id of the parent
	discovered time.Time
}

func (p *storeProcesses) read(now time.Time) ([]Reading, error) {
	all, err := p.fs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of this machine: %w", err)
	}
	stats, procs := make(map[int]procfs.ProcStat, len(all)), make(map[int]procfs.Proc, len(all))
	for _, proc := range all {
		if stat, err := proc.Stat(); err == nil { // else it has ended
			stats[proc.PID], procs[proc.PID] = stat, proc
		}
	}
	if now.Sub(p.discovered) >= rediscoverEvery {
		if p.stores, err = p.discover(all, stats); err != nil {
			return nil, err
		}
		p.discovered = now
	}
	var readings []Reading
	for root, name := range p.stores {
		if _, alive := stats[root]; !alive {
			continue
		}
		ticks, own, shared := 0.0, uint64(0), uint64(0)
		for pid, stat := range stats {
			if !below(stats, pid, root) {
				continue
			}
			ticks += float64(stat.UTime+stat.STime) + float64(stat.CUTime+stat.CSTime) // and of children that have ended
			if m, err := procs[pid].Statm(); err == nil {                              // else it has ended
				own += m.ResidentBytes() - m.SHRBytes()
				shared = max(shared, m.SHRBytes()) // PostgreSQL's processes share their buffers: not once for each
			}
		}
		readings = append(readings,
			Reading{Name: name + " CPU", Group: groupCPU, Unit: "cores", Value: ticks / tick, Total: true},
			Reading{Name: name + " memory", Group: groupMemory, Unit: "bytes", Value: float64(own + shared)})
	}
	slices.SortFunc(readings, func(a, b Reading) int { return cmp.Compare(a.Name, b.Name) })
	return readings, nil
}

// below says whether a process is root or a descendant of it.
func below(stats map[int]procfs.ProcStat, pid, root int) bool {
	for range 16 {
		if pid == root {
			return true
		}
		stat, ok := stats[pid]
		if !ok || stat.PPID <= 1 {
			return false
		}
		pid = stat.PPID
	}
	return false
}

// discover returns the names of the stores on this machine, by process.
func (p *storeProcesses) discover(all procfs.Procs, stats map[int]procfs.ProcStat) (map[int]string, error) {
	sockets, err := p.sockets()
	if err != nil {
		return nil, err
	}
	owners := socketOwners(all)
	listeners := listening(sockets, owners, stats)
	roles, names := map[int]bool{}, map[int]string{}
	for _, port := range localPorts(p.endpoints.roles) {
		if pid, ok := listeners[port]; ok {
			roles[pid] = true
		}
	}
	name := func(port uint64, as func(pid int) string) {
		if pid, ok := listeners[port]; ok && !roles[pid] && names[pid] == "" {
			if text := as(pid); text != "" {
				names[pid] = text
			}
		}
	}
	for _, store := range p.endpoints.stores {
		for _, port := range localPorts(store.addresses) {
			name(port, func(int) string { return store.name })
		}
	}
	for _, c := range sockets {
		isRole := func(pid int) bool { return roles[pid] }
		if c.St == tcpEstablished && slices.ContainsFunc(owners[c.Inode], isRole) && isLocal(c.RemAddr) {
			name(c.RemPort, p.storeName)
		}
	}
	return names, nil
}

// listening returns the process that listens on each port; of several that share a socket, the oldest.
func listening(sockets []socket, owners map[uint64][]int, stats map[int]procfs.ProcStat) map[uint64]int {
	listeners := map[uint64]int{}
	for _, l := range sockets {
		if l.St != tcpListen {
			continue
		}
		for _, pid := range owners[l.Inode] {
			if other, ok := listeners[l.LocalPort]; !ok || stats[pid].Starttime < stats[other].Starttime {
				listeners[l.LocalPort] = pid
			}
		}
	}
	return listeners
}

// socket is a TCP connection or listener of this machine.
type socket struct {
	St, LocalPort, RemPort, Inode uint64
	RemAddr                       net.IP
}

func (p *storeProcesses) sockets() ([]socket, error) {
	four, err := p.fs.NetTCP() //nolint:staticcheck // what replaces it is another module and needs rights
	if err != nil {
		return nil, fmt.Errorf("cannot list the connections of this machine: %w", err)
	}
	six, err := p.fs.NetTCP6() //nolint:staticcheck // as above
	if err != nil {
		six = nil // a machine without IPv6
	}
	var all []socket
	for _, list := range []procfs.NetTCP{four, six} {
		for _, l := range list {
			all = append(all, socket{St: l.St, LocalPort: l.LocalPort, RemPort: l.RemPort, Inode: l.Inode, RemAddr: l.RemAddr})
		}
	}
	return all, nil
}

// socketOwners returns the processes that hold each socket, as far as permissions allow.
func socketOwners(all procfs.Procs) map[uint64][]int {
	owners := map[uint64][]int{}
	for _, p := range all {
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue // it belongs to another user
		}
		for _, target := range targets {
			var inode uint64
			if n, _ := fmt.Sscanf(target, "socket:[%d]", &inode); n == 1 {
				owners[inode] = append(owners[inode], p.PID)
			}
		}
	}
	return owners
}

// storeName identifies a store by its command line; empty: not known.
func (p *storeProcesses) storeName(pid int) string {
	proc, err := p.fs.Proc(pid)
	if err != nil {
		return ""
	}
	words, err := proc.CmdLine()
	if err != nil {
		return ""
	}
	line := strings.ToLower(strings.Join(words, " "))
	for _, known := range []struct{ sign, name string }{{"dynamodb", "DynamoDB"}, {"kafka.kafka", "Kafka"},
		{"postgres", "PostgreSQL"}} {
		if strings.Contains(line, known.sign) {
			return known.name
		}
	}
	return ""
}
