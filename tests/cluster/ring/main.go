// A little program in the manner of MPI, for multi-node jobs: the nodes find each other by the AWS_BATCH_JOB_* variables
// and work together over real sockets.
//
// All connect to the main node and say where they listen (a barrier). The main node tells everyone who their neighbour is.
// Then a token goes round the ring, from each node straight to the next one, and every node adds its share. In a second
// round the sum goes round, so that each node knows it (an allreduce). Each reports to the main node what it has, and the
// main node checks all of it. It ends with 0 only if every node took part and all sums are right.
//
// With RING_NAMES the main node tells everyone their neighbour's name instead of the address: what stands behind the dot
// in its own name, as /etc/hosts has it, is the same for all.
//
// A node that is missing for RING_TIMEOUT (default 60s) ends the program with 1 and a message that names it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultPort    = 5000
	defaultRounds  = 3
	defaultTimeout = 60 * time.Second
	// How long a worker waits before it asks again for a main node that does not listen yet.
	again = 200 * time.Millisecond
	// How long one who connects may take to say who it is.
	hello = 5 * time.Second
	// The most that one connection may say.
	longest = 1 << 20
)

// node is what a node is told by its environment.
type node struct {
	index, main, count int
	mainAddress        string
	// What follows the node in the names of all nodes; empty if addresses are used.
	domain       string
	port, rounds int
	timeout      time.Duration
	deadline     time.Time
}

// message is everything that is said, one a line.
type message struct {
	// From a worker: who it is and where it listens.
	Index  int    `json:"index"`
	Listen string `json:"listen,omitempty"`
	// From the main node: whom to send the token to.
	Next string `json:"next,omitempty"`
	// The token: which round, its sum, and who has had it.
	Round int   `json:"round,omitempty"`
	Sum   int64 `json:"sum,omitempty"`
	Path  []int `json:"path,omitempty"`
	// From a worker at its end: the sums that it has seen.
	Sums []int64 `json:"sums,omitempty"`
	// From the main node: all is well.
	Done bool `json:"done,omitempty"`
}

func main() {
	me, err := fromEnvironment(os.LookupEnv)
	if err == nil {
		err = me.run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "ring: %v\n", err)
		os.Exit(1)
	}
}

func fromEnvironment(lookup func(string) (string, bool)) (*node, error) {
	var wrong []string
	number := func(name string, otherwise int) int {
		text, found := lookup(name)
		if !found && otherwise >= 0 {
			return otherwise
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			wrong = append(wrong, fmt.Sprintf("%s is %q", name, text))
		}
		return n
	}
	me := &node{
		index:   number("AWS_BATCH_JOB_NODE_INDEX", -1),
		main:    number("AWS_BATCH_JOB_MAIN_NODE_INDEX", -1),
		count:   number("AWS_BATCH_JOB_NUM_NODES", -1),
		port:    number("RING_PORT", defaultPort),
		rounds:  number("RING_ROUNDS", defaultRounds),
		timeout: defaultTimeout,
	}
	if text, found := lookup("RING_TIMEOUT"); found {
		timeout, err := time.ParseDuration(text)
		if err != nil || timeout <= 0 {
			wrong = append(wrong, fmt.Sprintf("RING_TIMEOUT is %q", text))
		}
		me.timeout = timeout
	}
	if _, found := lookup("RING_NAMES"); found {
		hosts, _ := os.ReadFile("/etc/hosts")
		if me.domain = domain(string(hosts), me.index); me.domain == "" {
			wrong = append(wrong, fmt.Sprintf("/etc/hosts has no name of node %d", me.index))
		}
	}
	me.mainAddress, _ = lookup("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS")
	if len(wrong) == 0 {
		switch {
		case me.count < 1 || me.index >= me.count || me.main >= me.count:
			wrong = append(wrong, fmt.Sprintf("node %d, main node %d of %d nodes", me.index, me.main, me.count))
		case me.isMain() && me.mainAddress != "":
			// As on AWS: the main node is not told its own address.
			wrong = append(wrong, "the main node has AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS")
		case !me.isMain() && net.ParseIP(me.mainAddress).To4() == nil:
			wrong = append(wrong, fmt.Sprintf("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS is %q", me.mainAddress))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.New("the environment makes no sense: " + strings.Join(wrong, ", "))
	}
	return me, nil
}

// domain is what follows the node in its full name.
func domain(hosts string, index int) string {
	for _, name := range strings.Fields(hosts) {
		if domain, found := strings.CutPrefix(name, fmt.Sprintf("node-%d.", index)); found {
			return domain
		}
	}
	return ""
}

func (n *node) isMain() bool { return n.index == n.main }

// share is what a node adds to the sum.
func share(index int) int64 { return int64(index+1) * int64(index+1) }

func (n *node) run() error {
	n.deadline = time.Now().Add(n.timeout)
	// Where the token comes in; the system chooses the port.
	ring, err := net.Listen("tcp4", ":0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	defer ring.Close()
	if n.isMain() {
		return n.lead(ring)
	}
	return n.follow(ring)
}

// lead is the main node's part.
func (n *node) lead(ring net.Listener) error {
	workers, addresses, err := n.gather(ring)
	defer func() {
		for _, worker := range workers {
			worker.Close()
		}
	}()
	if err != nil {
		return err
	}
	for index, worker := range workers {
		if err := worker.send(message{Next: addresses[(index+1)%n.count]}); err != nil {
			return fmt.Errorf("node %d went away: %w", index, err)
		}
	}
	fmt.Printf("ring: all %d nodes are here: %s\n", n.count, strings.Join(addresses, " "))
	sums, err := n.pass(ring, addresses[(n.index+1)%n.count])
	if err != nil {
		return err
	}
	for index, worker := range workers {
		report, err := worker.receive()
		if err != nil {
			return fmt.Errorf("node %d did not report: %w", index, err)
		}
		if !slices.Equal(report.Sums, sums) {
			return fmt.Errorf("node %d has the sums %v, the main node has %v", index, report.Sums, sums)
		}
	}
	var expected int64
	for index := range n.count {
		expected += share(index)
	}
	for round, sum := range sums {
		if sum != expected {
			return fmt.Errorf("round %d came to %d, not to %d", round+1, sum, expected)
		}
	}
	for index, worker := range workers {
		if err := worker.send(message{Done: true}); err != nil {
			return fmt.Errorf("node %d went away: %w", index, err)
		}
	}
	fmt.Printf("ring: %d rounds, each came to %d, on all %d nodes\n", n.rounds, expected, n.count)
	return nil
}

// gather waits until every worker has connected. The addresses of all nodes' rings come back in their order.
func (n *node) gather(ring net.Listener) (map[int]*peer, []string, error) {
	listener, err := net.Listen("tcp4", fmt.Sprintf(":%d", n.port))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen: %w", err)
	}
	defer listener.Close()
	_ = listener.(*net.TCPListener).SetDeadline(n.deadline)
	workers, addresses := map[int]*peer{}, make([]string, n.count)
	for len(workers) < n.count-1 {
		connection, err := listener.Accept()
		if err != nil {
			return workers, nil, fmt.Errorf("%s missing after %v", n.missing(workers), n.timeout)
		}
		worker := n.peer(connection)
		// Whoever says nothing must not keep the others waiting.
		worker.patience = min(n.timeout, hello)
		first, err := worker.receive()
		worker.patience = n.timeout
		if err != nil || first.Index < 0 || first.Index >= n.count || first.Index == n.index {
			// Not one of ours.
			worker.Close()
			continue
		}
		if known, twice := workers[first.Index]; twice {
			known.Close()
		}
		workers[first.Index] = worker
		host, _, _ := net.SplitHostPort(connection.RemoteAddr().String())
		_, port, _ := net.SplitHostPort(first.Listen)
		addresses[first.Index] = net.JoinHostPort(host, port)
		if n.count == len(workers)+1 || addresses[n.index] == "" {
			// The side of the main node that the others reach.
			own, _, _ := net.SplitHostPort(connection.LocalAddr().String())
			_, port, _ := net.SplitHostPort(ring.Addr().String())
			addresses[n.index] = net.JoinHostPort(own, port)
		}
	}
	if n.count == 1 {
		_, port, _ := net.SplitHostPort(ring.Addr().String())
		addresses[0] = net.JoinHostPort("127.0.0.1", port)
	}
	if n.domain != "" {
		for index, address := range addresses {
			_, port, _ := net.SplitHostPort(address)
			addresses[index] = net.JoinHostPort(fmt.Sprintf("node-%d.%s", index, n.domain), port)
		}
	}
	return workers, addresses, nil
}

func (n *node) missing(workers map[int]*peer) string {
	var names []string
	for index := range n.count {
		if _, here := workers[index]; !here && index != n.index {
			names = append(names, strconv.Itoa(index))
		}
	}
	if len(names) == 1 {
		return "node " + names[0] + " is"
	}
	return "nodes " + strings.Join(names, ", ") + " are"
}

// follow is a worker's part.
func (n *node) follow(ring net.Listener) error {
	address := net.JoinHostPort(n.mainAddress, strconv.Itoa(n.port))
	main, err := n.dial(address)
	if err != nil {
		return fmt.Errorf("the main node does not answer at %s: missing after %v: %w", address, n.timeout, err)
	}
	defer main.Close()
	if err := main.send(message{Index: n.index, Listen: ring.Addr().String()}); err != nil {
		return fmt.Errorf("the main node went away: %w", err)
	}
	start, err := main.receive()
	if err != nil {
		return fmt.Errorf("the main node did not begin: %w", err)
	}
	fmt.Printf("ring: node %d of %d, the next one is at %s\n", n.index, n.count, start.Next)
	sums, err := n.pass(ring, start.Next)
	if err != nil {
		return err
	}
	if err := main.send(message{Index: n.index, Sums: sums}); err != nil {
		return fmt.Errorf("the main node went away: %w", err)
	}
	if end, err := main.receive(); err != nil || !end.Done {
		return fmt.Errorf("the main node is not content: %v", err)
	}
	fmt.Printf("ring: node %d has seen the sums %v\n", n.index, sums)
	return nil
}

// pass takes part in all rounds. The main node begins each: once to add up, once to tell everyone.
func (n *node) pass(ring net.Listener, next string) ([]int64, error) {
	if n.count == 1 {
		return slices.Repeat([]int64{share(n.index)}, n.rounds), nil
	}
	out, err := n.dial(next)
	if err != nil {
		return nil, fmt.Errorf("the next node does not answer at %s: %w", next, err)
	}
	defer out.Close()
	_ = ring.(*net.TCPListener).SetDeadline(n.deadline)
	connection, err := ring.Accept()
	if err != nil {
		return nil, fmt.Errorf("nobody passes the token to node %d: missing after %v", n.index, n.timeout)
	}
	in := n.peer(connection)
	defer in.Close()
	var sums []int64
	for round := 1; round <= n.rounds; round++ {
		sum, err := n.round(in, out, round)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", round, err)
		}
		sums = append(sums, sum)
	}
	return sums, nil
}

func (n *node) round(in, out *peer, round int) (int64, error) {
	if n.isMain() {
		if err := out.send(message{Round: round, Sum: share(n.index), Path: []int{n.index}}); err != nil {
			return 0, fmt.Errorf("the next node went away: %w", err)
		}
	}
	token, err := in.receive()
	if err != nil {
		return 0, fmt.Errorf("the token is lost: %w", err)
	}
	if token.Round != round {
		return 0, fmt.Errorf("the token is of round %d", token.Round)
	}
	if n.isMain() {
		if len(token.Path) != n.count {
			return 0, fmt.Errorf("the token went to nodes %v only", token.Path)
		}
	} else {
		token.Sum += share(n.index)
		token.Path = append(token.Path, n.index)
	}
	if err := out.send(token); err != nil {
		return 0, fmt.Errorf("the next node went away: %w", err)
	}
	// Once more round: now it is whole.
	whole, err := in.receive()
	if err != nil {
		return 0, fmt.Errorf("the sum is lost: %w", err)
	}
	if !n.isMain() {
		if err := out.send(whole); err != nil {
			return 0, fmt.Errorf("the next node went away: %w", err)
		}
	}
	return whole.Sum, nil
}

// dial connects, and goes on trying: the other side may not listen yet.
func (n *node) dial(address string) (*peer, error) {
	for {
		connection, err := net.DialTimeout("tcp4", address, max(time.Until(n.deadline), again))
		if err == nil {
			return n.peer(connection), nil
		}
		if time.Until(n.deadline) < again {
			return nil, err
		}
		time.Sleep(again)
	}
}

// peer is a connection that says and hears messages. Each has the node's patience from when it is waited for.
type peer struct {
	net.Conn
	decoder  *json.Decoder
	patience time.Duration
}

func (n *node) peer(connection net.Conn) *peer {
	limited := &limitedReader{connection, longest}
	return &peer{connection, json.NewDecoder(limited), n.timeout}
}

func (p *peer) send(m message) error {
	_ = p.SetWriteDeadline(time.Now().Add(p.patience))
	return json.NewEncoder(p.Conn).Encode(m)
}

func (p *peer) receive() (message, error) {
	_ = p.SetReadDeadline(time.Now().Add(p.patience))
	var m message
	err := p.decoder.Decode(&m)
	return m, err
}

// limitedReader ends a connection that says more than any node would.
type limitedReader struct {
	from net.Conn
	left int
}

func (r *limitedReader) Read(into []byte) (int, error) {
	if r.left <= 0 {
		return 0, errors.New("too much was said")
	}
	read, err := r.from.Read(into[:min(len(into), r.left)])
	r.left -= read
	return read, err
}
