//go:build !linux

package services

import "syscall"

// dieWithParent does nothing: here a child outlives a killed parent.
func dieWithParent(*syscall.SysProcAttr) {}
