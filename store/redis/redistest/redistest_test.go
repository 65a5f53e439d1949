package redistest

import (
	"bytes"
	"net"
	"strings"
	"testing"
)

// forms are the three ways to run it.
var forms = map[string]func(TB, ...Option) *Server{"standalone": Standalone, "sentinel": Sentinel, "cluster": Cluster}

// TestForms: each form takes a value, keeps it over a kill, shows it in a dump, and names itself in its URL.
func TestForms(t *testing.T) {
	for name, start := range forms {
		for _, secure := range []bool{false, true} {
			label := name
			var opts []Option
			if secure {
				label, opts = name+" secure", []Option{Secure()}
			}
			t.Run(label, func(t *testing.T) {
				t.Parallel()
				s := start(t, opts...)
				if out := s.Do("SET", "anteroom:k", "needle-in-a-dump"); out != "OK" {
					t.Fatal(out)
				}
				s.Kill()
				s.Start()
				if out := s.Do("GET", "anteroom:k"); out != "needle-in-a-dump" {
					t.Errorf("after a kill it is %q", out)
				}
				if !bytes.Contains(s.Dump(), []byte("needle-in-a-dump")) {
					t.Error("the dump lacks the value")
				}
				if want := map[bool]string{false: "redis://127.0.0.1:", true: "rediss://anteroom:" + userKey + "@127.0.0.1:"}[secure]; !strings.HasPrefix(s.URL(), want) {
					t.Error(s.URL())
				}
				if strings.Count(s.URL(), "addr=") != len(s.Addresses)-1 || strings.Contains(s.URL(), "cluster=true") != s.Cluster || strings.Contains(s.URL(), "master_name="+MasterName) != (s.Master != "") {
					t.Error(s.URL())
				}
				if secure {
					leastRights(t, s)
				}
			})
		}
	}
}

// leastRights: the user reaches its own keys with the commands of a store and nothing else.
func leastRights(t *testing.T, s *Server) {
	t.Helper()
	if out := s.DoAsUser("GET", "anteroom:k"); out != "needle-in-a-dump" {
		t.Errorf("own key: %q", out)
	}
	for _, args := range [][]string{{"GET", "other"}, {"SET", "anteroomx", "1"}, {"KEYS", "*"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}, {"ACL", "LIST"}, {"EVAL", "return redis.call('GET','other')", "0"}} {
		if out := s.DoAsUser(args...); !strings.Contains(out, "permission") && !strings.Contains(out, "can't access") {
			t.Errorf("%v is allowed: %s", args, out)
		}
	}
}

func TestSentinelFaults(t *testing.T) {
	t.Parallel()
	s := Sentinel(t)
	first := s.master()
	s.Do("SET", "k", "1")
	s.Failover()
	if s.master() == first {
		t.Error("Failover left the master where it was")
	}
	if out := s.Do("GET", "k"); out != "1" {
		t.Errorf("the value did not come along: %q\n%s", out, s.logs())
	}
	s.KillMaster()
	if s.master() != first {
		t.Error("KillMaster: the replica is not the master")
	}
	s.Start()
	if s.Do("GET", "k") != "1" || s.replicas() != 1 {
		t.Error("after the killed one is back")
	}
}

func TestClusterFaults(t *testing.T) {
	t.Parallel()
	s := Cluster(t)
	s.KillMaster(1)
	if out := s.DoAt(0, "GET", "k"); !strings.Contains(out, "CLUSTERDOWN") {
		t.Errorf("a Cluster without one master answers %q", out)
	}
	s.Start()
	if out := s.DoAt(0, "SET", "k", "1"); out != "OK" {
		t.Error(out)
	}
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	s := Standalone(t, In(t.TempDir()), Conf("maxmemory-policy allkeys-lru"))
	if out := s.Do("CONFIG", "GET", "maxmemory-policy"); !strings.Contains(out, "allkeys-lru") {
		t.Error(out)
	}
	if c, err := net.Dial("unix", s.Socket); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	s.Freeze()
	if _, err := s.cli(s.nodes[0], true, "PING"); err == nil {
		t.Error("a frozen server answers")
	}
	s.Thaw()
	if s.Do("PING") != "PONG" {
		t.Error("a thawed server does not answer")
	}
	s.Stop()
	if _, err := net.Dial("tcp", s.Addresses[0]); err == nil {
		t.Error("a stopped server takes connections")
	}
}

// TestLoopback: a port that the whole network reaches is seen.
func TestLoopback(t *testing.T) {
	for address, fine := range map[string]bool{"127.0.0.1:0": true, "127.0.0.2:0": false} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := onlyLoopback(l.Addr().(*net.TCPAddr).Port); (err == nil) != fine {
			t.Errorf("%s: %v", address, err)
		}
		_ = l.Close()
	}
}

func TestOutside(t *testing.T) {
	o, end := Outside()
	s := Standalone(o)
	if s.Do("PING") != "PONG" {
		t.Error("no answer")
	}
	end()
	if _, err := net.Dial("tcp", s.Addresses[0]); err == nil {
		t.Error("it still runs")
	}
}
