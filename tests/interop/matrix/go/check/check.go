// Package check is what the programs share: their arguments, their errors, comparing.
package check

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"time"
)

const (
	Rounds  = 10
	Timeout = 20 * time.Second
)

// Arguments returns the broker's address and the topic to create.
func Arguments() (address, topic string) { return os.Args[1], os.Args[2] }

// NoError ends the program with what failed.
func NoError(what string, err error) {
	if err != nil {
		fmt.Printf("failed: %s: %v\n", what, err)
		os.Exit(1)
	}
}

// Equal ends the program unless both are the same.
func Equal(what string, expected, found any) {
	if !reflect.DeepEqual(expected, found) {
		fmt.Printf("failed: %s: expected %v, found %v\n", what, expected, found)
		os.Exit(1)
	}
}

// Eventually waits until it holds.
func Eventually(what string, holds func() bool) {
	for start := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > Timeout {
			fmt.Printf("failed: not in time: %s\n", what)
			os.Exit(1)
		}
	}
}

// Done prints the version of the module that was checked.
func Done(module string) {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			fmt.Println("ok", dependency.Version)
		}
	}
}
