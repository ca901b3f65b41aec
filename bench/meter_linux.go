package main

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// processorTimes returns the processor time of each process since its start.
func processorTimes(of []watched) (map[string]usage, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes: %w", err)
	}
	stats := make(map[int]procfs.ProcStat, len(all))
	children := map[int][]int{}
	for _, p := range all {
		if stat, err := p.Stat(); err == nil { // else it has ended
			stats[p.PID] = stat
			children[stat.PPID] = append(children[stat.PPID], p.PID)
		}
	}
	var tree func(pid int) float64
	tree = func(pid int) float64 {
		stat := stats[pid]
		sum := stat.CPUTime()
		for _, child := range children[pid] {
			sum += tree(child)
		}
		return sum
	}
	used := map[string]usage{}
	for _, w := range of {
		own, ok := stats[w.pid]
		if !ok {
			return nil, fmt.Errorf("process %d (%s) is gone", w.pid, w.name)
		}
		var sum float64
		switch w.scope {
		case itself:
			sum = own.CPUTime()
		case below:
			sum = tree(w.pid) - own.CPUTime()
		case both:
			sum = tree(w.pid)
		}
		used[w.name] += usage(sum * float64(time.Second))
	}
	return used, nil
}

// memoryOf returns the resident memory of a process in MiB, shared pages included.
func memoryOf(pid int) (mib float64, err error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	status, err := p.NewStatus()
	return float64(status.VmRSS) / (1 << 20), err
}

// hardware returns the model of the processor and the memory in GiB, as far as the system reports them.
func hardware() (processor string, gib uint64) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return "", 0
	}
	if all, err := fs.CPUInfo(); err == nil && len(all) > 0 {
		processor = all[0].ModelName
	}
	if m, err := fs.Meminfo(); err == nil && m.MemTotalBytes != nil {
		gib = (*m.MemTotalBytes + 1<<29) >> 30
	}
	return processor, gib
}
