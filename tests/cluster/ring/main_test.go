package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test program is the ring program, too, so that nodes are processes of their own.
func TestMain(m *testing.M) {
	if os.Getenv("RING_TEST_NODE") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type ended struct {
	code     int
	out, err string
}

// nodes runs some nodes of a job on loopback, each after a delay, until all of them have ended.
func nodes(t *testing.T, count, main int, timeout string, present ...int) map[int]ended {
	t.Helper()
	port := freePort(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	results, lock, all := map[int]ended{}, sync.Mutex{}, sync.WaitGroup{}
	for _, index := range present {
		command := exec.CommandContext(ctx, os.Args[0])
		command.Env = []string{
			"RING_TEST_NODE=yes", "RING_PORT=" + port, "RING_TIMEOUT=" + timeout,
			fmt.Sprintf("AWS_BATCH_JOB_NODE_INDEX=%d", index),
			fmt.Sprintf("AWS_BATCH_JOB_MAIN_NODE_INDEX=%d", main),
			fmt.Sprintf("AWS_BATCH_JOB_NUM_NODES=%d", count),
		}
		if index != main {
			command.Env = append(command.Env, "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS=127.0.0.1")
		}
		all.Add(1)
		go func() {
			defer all.Done()
			var out, err bytes.Buffer
			command.Stdout, command.Stderr = &out, &err
			_ = command.Run()
			lock.Lock()
			defer lock.Unlock()
			results[index] = ended{command.ProcessState.ExitCode(), out.String(), err.String()}
		}()
	}
	all.Wait()
	return results
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func TestAllNodesAgreeOnTheSum(t *testing.T) {
	for _, c := range []struct{ count, main, sum int }{{1, 0, 1}, {2, 0, 5}, {5, 2, 55}, {16, 15, 1496}} {
		present := make([]int, c.count)
		for index := range present {
			present[index] = index
		}
		results := nodes(t, c.count, c.main, "30s", present...)
		for index, result := range results {
			if result.code != 0 {
				t.Errorf("%d nodes: node %d ended with %d: %s", c.count, index, result.code, result.err)
			}
		}
		expected := fmt.Sprintf("each came to %d, on all %d nodes\n", c.sum, c.count)
		if !strings.Contains(results[c.main].out, expected) {
			t.Errorf("the main node did not say %q: %s", expected, results[c.main].out)
		}
	}
}

func TestAMissingNodeIsNamed(t *testing.T) {
	results := nodes(t, 4, 0, "2s", 0, 1, 3)
	if main := results[0]; main.code != 1 || !strings.Contains(main.err, "node 2 is missing after 2s") {
		t.Errorf("the main node ended with %d: %s", main.code, main.err)
	}
	for _, index := range []int{1, 3} {
		if worker := results[index]; worker.code != 1 || !strings.Contains(worker.err, "main node did not begin") {
			t.Errorf("node %d ended with %d: %s", index, worker.code, worker.err)
		}
	}
	several := nodes(t, 4, 1, "1s", 1)[1]
	if several.code != 1 || !strings.Contains(several.err, "nodes 0, 2, 3 are missing") {
		t.Errorf("ended with %d: %s", several.code, several.err)
	}
	alone := nodes(t, 2, 0, "1s", 1)[1]
	if alone.code != 1 || !strings.Contains(alone.err, "the main node does not answer at 127.0.0.1") {
		t.Errorf("ended with %d: %s", alone.code, alone.err)
	}
}

func TestWhoeverIsNoNodeIsPassedOver(t *testing.T) {
	me := &node{index: 0, main: 0, count: 2, port: 0, rounds: 2, timeout: 20 * time.Second}
	port := freePort(t)
	fmt.Sscan(port, &me.port)
	done := make(chan error, 1)
	go func() { done <- me.run() }()
	stranger := func(says string) {
		for {
			connection, err := net.Dial("tcp4", "127.0.0.1:"+port)
			if err == nil {
				fmt.Fprint(connection, says)
				connection.Close()
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, says := range []string{"", "GET / HTTP/1.1\r\n\r\n", `{"index": 0}` + "\n", `{"index": 7}` + "\n"} {
		stranger(says)
	}
	worker := &node{index: 1, main: 0, count: 2, port: me.port, rounds: 2, timeout: 20 * time.Second, mainAddress: "127.0.0.1"}
	if err := worker.run(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnEnvironmentThatMakesNoSenseIsRefused(t *testing.T) {
	good := map[string]string{
		"AWS_BATCH_JOB_NODE_INDEX": "1", "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0", "AWS_BATCH_JOB_NUM_NODES": "2",
		"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.1",
	}
	try := func(name, value string) error {
		_, err := fromEnvironment(func(asked string) (string, bool) {
			if asked == name {
				return value, value != "-"
			}
			known, found := good[asked]
			return known, found
		})
		return err
	}
	if err := try("", ""); err != nil {
		t.Error(err)
	}
	for name, values := range map[string][]string{
		"AWS_BATCH_JOB_NODE_INDEX":                     {"-", "x", "2", "-1", "0"},
		"AWS_BATCH_JOB_MAIN_NODE_INDEX":                {"-", "", "2"},
		"AWS_BATCH_JOB_NUM_NODES":                      {"-", "0"},
		"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": {"-", "main", "::1"},
		"RING_TIMEOUT":                                 {"soon", "-1s"},
		"RING_PORT":                                    {"http"},
	} {
		for _, value := range values {
			if err := try(name, value); err == nil || !strings.Contains(err.Error(), "makes no sense") {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
}
