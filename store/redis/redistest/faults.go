package redistest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Start starts what does not run, on the same ports and folders, and waits until all is well again.
func (s *Server) Start() {
	s.t.Helper()
	for i, n := range s.nodes {
		s.launch(n)
		if s.Master != "" && i > 0 && s.sentinels[0].cmd == nil { // a Sentinel that finds the replica at once needs not look for it later
			s.until("the replica", func() bool { return s.replicas() == 1 })
		}
	}
	for _, n := range s.sentinels {
		s.launch(n)
		// By default they look every ten seconds who follows whom, and a test would wait for that.
		if out := s.do(n, true, []string{"SENTINEL", "DEBUG", "info-period", "500", "publish-period", "500"}); out != "OK" {
			s.t.Fatalf("tuning %s: %s", n.name, out)
		}
	}
	s.ready()
}

// Stop ends all processes as an operator does.
func (s *Server) Stop() {
	for _, n := range append(s.sentinels, s.nodes...) {
		n.end(syscall.SIGTERM)
	}
	s.frozen = nil
}

// Kill ends all processes at once, without a chance to write anything.
func (s *Server) Kill() {
	for _, n := range append(s.sentinels, s.nodes...) {
		n.end(syscall.SIGKILL)
	}
	s.frozen = nil
}

// Freeze stops the data servers in their tracks: their ports take connections, and nothing answers.
func (s *Server) Freeze() {
	for _, n := range s.nodes {
		s.freeze(n)
	}
}

func (s *Server) freeze(n *node) {
	s.t.Helper()
	if n.cmd == nil {
		return
	}
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatalf("freezing %s: %v", n.name, err)
	}
	s.frozen = append(s.frozen, n)
}

// FreezeReplica stops the replica under Sentinels: it stays attached and acknowledges nothing.
func (s *Server) FreezeReplica() {
	s.t.Helper()
	master := s.master()
	for _, n := range s.nodes {
		if n != master {
			s.freeze(n)
		}
	}
}

// Thaw lets go on what Freeze stopped.
func (s *Server) Thaw() {
	s.t.Helper()
	for _, n := range s.frozen {
		if n.cmd == nil {
			continue
		}
		if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatalf("thawing %s: %v", n.name, err)
		}
	}
	s.frozen = nil
}

// Failover makes the replica the master and waits until the old master follows it.
func (s *Server) Failover() {
	s.t.Helper()
	old := s.master()
	s.until("the Sentinels to begin", func() bool { // they refuse while they know no good replica
		out, _ := s.cli(s.sentinels[0], true, "SENTINEL", "FAILOVER", MasterName)
		return out == "OK"
	})
	s.until("another master", func() bool { return s.reported() != old.port })
	s.ready()
}

// KillMaster kills the present master under Sentinels and waits until the replica is the master, or kills the i-th server of a
// Cluster and waits until the others refuse to serve. Start brings it back.
func (s *Server) KillMaster(i ...int) {
	s.t.Helper()
	if s.Cluster {
		n := s.nodes[i[0]]
		n.end(syscall.SIGKILL)
		for _, other := range s.nodes {
			if other.cmd != nil {
				s.until("the Cluster to fail", func() bool {
					out, err := s.cli(other, true, "CLUSTER", "INFO")
					return err == nil && strings.Contains(out, "cluster_state:fail")
				})
			}
		}
		return
	}
	old := s.master()
	old.end(syscall.SIGKILL)
	if s.Master == "" {
		return
	}
	s.until("another master", func() bool {
		n := s.at(s.reported())
		return n != nil && n != old && s.role(n) == "master"
	})
}

// Dump returns all bytes that the data servers keep on the disk, commands of the past included.
func (s *Server) Dump() []byte {
	s.t.Helper()
	var all bytes.Buffer
	for _, n := range s.nodes {
		if n.cmd != nil {
			if out, err := s.cli(n, true, "SAVE"); err != nil || out != "OK" {
				s.t.Fatalf("saving %s: %s %v", n.name, out, err)
			}
		}
		err := filepath.WalkDir(n.data(), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			all.Write(b)
			return err
		})
		if err != nil {
			s.t.Fatalf("dumping %s: %v", n.name, err)
		}
	}
	return all.Bytes()
}

// Do runs a command on the master and returns what redis-cli prints; a Cluster finds the right server itself.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	return s.do(s.master(), true, args)
}

// DoAt runs a command on the i-th data server.
func (s *Server) DoAt(i int, args ...string) string {
	s.t.Helper()
	return s.do(s.nodes[i], true, args)
}

// DoAsUser runs a command on the master with the least rights.
func (s *Server) DoAsUser(args ...string) string {
	s.t.Helper()
	return s.do(s.master(), false, args)
}

func (s *Server) do(n *node, admin bool, args []string) string {
	s.t.Helper()
	out, err := s.cli(n, admin, args...)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.logs())
	}
	return out
}

// ready waits until the form as a whole works.
func (s *Server) ready() {
	s.t.Helper()
	if s.Cluster {
		for _, n := range s.nodes {
			s.until("the Cluster", func() bool {
				out, err := s.cli(n, true, "CLUSTER", "INFO")
				return err == nil && strings.Contains(out, "cluster_state:ok") && strings.Contains(out, "cluster_known_nodes:3")
			})
		}
	}
	if s.Master == "" {
		return
	}
	s.until("the replica", func() bool { return s.replicas() == 1 })
	for _, n := range s.sentinels {
		s.until(n.name+" to know all", func() bool {
			quorum, err := s.cli(n, true, "SENTINEL", "CKQUORUM", MasterName)
			out, err2 := s.cli(n, true, "SENTINEL", "MASTER", MasterName)
			return err == nil && err2 == nil && strings.HasPrefix(quorum, "OK 3 ") && after(out, "num-slaves") == "1" && after(out, "flags") == "master" &&
				after(out, "port") == fmt.Sprint(s.master().port)
		})
	}
}

// meet makes a Cluster of servers that do not know each other.
func (s *Server) meet() {
	s.t.Helper()
	const slots = 16384
	for i, n := range s.nodes {
		first, last := i*slots/len(s.nodes), (i+1)*slots/len(s.nodes)-1
		s.do(n, true, []string{"CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i + 1)})
		if out := s.do(n, true, []string{"CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(first), fmt.Sprint(last)}); out != "OK" {
			s.t.Fatalf("giving slots to %s: %s", n.name, out)
		}
		if i > 0 {
			s.do(s.nodes[0], true, []string{"CLUSTER", "MEET", "127.0.0.1", fmt.Sprint(n.port), fmt.Sprint(n.bus)})
		}
	}
}

// master is the server that the Sentinels call the master; the first one in the other forms.
func (s *Server) master() *node {
	s.t.Helper()
	if s.Master == "" {
		return s.nodes[0]
	}
	var found *node
	s.until("a master", func() bool {
		if s.sentinels[0].cmd == nil { // not started yet, or all stopped
			found = s.nodes[0]
		} else {
			found = s.at(s.reported())
		}
		return found != nil
	})
	return found
}

// reported is the port of the master as the first Sentinel sees it, 0 when it does not say.
func (s *Server) reported() int {
	out, err := s.cli(s.sentinels[0], true, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
	var port int
	if _, err2 := fmt.Sscan(strings.Replace(out, "127.0.0.1", "", 1), &port); err != nil || err2 != nil {
		return 0
	}
	return port
}

func (s *Server) at(port int) *node {
	for _, n := range s.nodes {
		if n.port == port {
			return n
		}
	}
	return nil
}

func (s *Server) role(n *node) string {
	out, _ := s.cli(n, true, "ROLE") // no answer is no role
	role, _, _ := strings.Cut(out, "\n")
	return role
}

// acknowledged matches a replica that has acknowledged something since its synchronization. Before that the master calls it online
// already and sends it nothing, for up to a second.
var acknowledged = regexp.MustCompile(`state=online,offset=[1-9]`)

// replicas counts those that follow the master.
func (s *Server) replicas() int {
	out, _ := s.cli(s.master(), true, "INFO", "replication") // no answer: none
	return len(acknowledged.FindAllString(out, -1))
}

// after returns the line that follows a line, as redis-cli prints maps.
func after(out, line string) string {
	lines := strings.Split(out, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if lines[i] == line {
			return lines[i+1]
		}
	}
	return ""
}
