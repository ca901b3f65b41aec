// Package failpoint lets a process break its promises on purpose, so that tests can prove what that looks like. Here kills
// the process at a named line, and what it leaves behind has to heal. Planted makes it lie, and a checker that compares
// what was promised with what came of it has to turn red. Both do so only in a binary built with -tags failpoint; in any
// other build they are empty and compile to nothing.
package failpoint
