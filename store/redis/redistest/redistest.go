// Package redistest starts real Redis servers for tests: one server, a master with
// a replica under three Sentinels, or a Cluster of three masters, with TLS and an
// ACL user on demand. Everything listens on 127.0.0.1 only, which is checked, keeps
// its files in one folder of the test and ends with the test.
//
// Standalone, Sentinel and Cluster return a Server that is ready to be asked. Its
// methods are the faults a test wants: Stop, Kill, Freeze, Failover, KillMaster.
// Servers write each command through to the disk (appendfsync always), so that what
// was acknowledged survives Kill and Start.
//
// Where redis-server is not installed the test is skipped; with CI=true it fails.
// A TestMain has no testing.TB: see Outside.
package redistest

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// MasterName is the name under which the Sentinels know their master.
const MasterName = "mymaster"

// The users of a server that was started with Secure.
const (
	UserName = "anteroom"
	adminKey = "redistest-admin"
	userKey  = "redistest-anteroom-password"
)

// Rights are the commands that a store needs, in the words of Redis' ACL. Beside them the user gets
// the keys of its prefix and nothing else.
const Rights = "-@all +ping +hello +auth +client|setname +info +time +wait +readonly +select" +
	" +get +set +getdel +del +unlink +exists +mget +pexpire +pexpireat +pttl +scan +hset +hget +hgetall +hdel" +
	" +eval +evalsha +script|load +multi +exec +discard +watch +unwatch" +
	" +xadd +xrange +xrevrange +xread +xdel +xlen +xtrim +xinfo|stream +xsetid +rename +cluster|slots +cluster|shards +cluster|nodes +cluster|info +command +role"

// TB is what a server needs of the test it belongs to.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

var _ TB = testing.TB(nil)

// Server is a running Redis in one of the three forms.
type Server struct {
	Addresses          []string // of the servers; with Master those of the Sentinels
	Master             string   // name of the Sentinels' master, "" without Sentinels
	Cluster            bool
	Username, Password string // of the user with the least rights; "" without Secure
	CA                 string // file of the certificate authority in PEM; "" without Secure
	Dir                string // holds all files
	Socket             string // of the unix socket of a standalone server

	t         TB
	setup     setup
	nodes     []*node // the data servers
	sentinels []*node
	frozen    []*node
}

type setup struct {
	secure bool
	prefix string
	dir    string
	conf   []string
}

// Option changes how a server is started.
type Option func(*setup)

// Secure starts it with TLS only, its own authority (Server.CA), the default user switched off and one
// user that has the least rights (Server.Username, Server.Password).
func Secure() Option { return func(s *setup) { s.secure = true } }

// Prefix is what the keys of the user of Secure begin with, before a colon. Default: "anteroom".
func Prefix(prefix string) Option { return func(s *setup) { s.prefix = prefix } }

// In keeps the files in dir instead of a new folder of the test.
func In(dir string) Option { return func(s *setup) { s.dir = dir } }

// Conf adds lines to the configuration of each data server.
func Conf(lines ...string) Option {
	return func(s *setup) { s.conf = append(s.conf, lines...) }
}

// Standalone starts one server.
func Standalone(t TB, opts ...Option) *Server {
	t.Helper()
	s := begin(t, opts)
	n := s.add(fmt.Sprintf("unixsocket %s", s.socket()), "unixsocketperm 700")
	s.Addresses = []string{n.address()}
	s.Start()
	return s
}

// Sentinel starts a master, a replica and three Sentinels, which call a master dead after one second.
func Sentinel(t TB, opts ...Option) *Server {
	t.Helper()
	s := begin(t, opts)
	s.Master = MasterName
	master := s.add()
	s.add(fmt.Sprintf("replicaof 127.0.0.1 %d", master.port))
	for range 3 {
		n := s.addSentinel(master.port)
		s.Addresses = append(s.Addresses, n.address())
	}
	s.Start()
	return s
}

// Cluster starts three masters without replicas, which call each other dead after two seconds. With one
// of them gone the others refuse every command.
func Cluster(t TB, opts ...Option) *Server {
	t.Helper()
	s := begin(t, opts)
	s.Cluster = true
	for range 3 {
		bus := freePort(t)
		n := s.add("cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000", fmt.Sprintf("cluster-port %d", bus))
		n.bus = bus
		s.Addresses = append(s.Addresses, n.address())
	}
	for _, n := range s.nodes {
		s.launch(n)
	}
	s.meet()
	s.ready()
	return s
}

// URL is the address in the form that the store takes. The authority (CA) is not part of it.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addresses[0]}
	if s.CA != "" {
		u.Scheme = "rediss"
	}
	if s.Username != "" {
		u.User = url.UserPassword(s.Username, s.Password)
	}
	q := url.Values{}
	for _, a := range s.Addresses[1:] {
		q.Add("addr", a)
	}
	if s.Master != "" {
		q.Set("master_name", s.Master)
	}
	if s.Cluster {
		q.Set("cluster", "true")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Roots holds the certificate authority, for clients; nil without Secure.
func (s *Server) Roots() *x509.CertPool {
	s.t.Helper()
	if s.CA == "" {
		return nil
	}
	text, err := os.ReadFile(s.CA)
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(text) {
		s.t.Fatalf("reading %s: %v", s.CA, err)
	}
	return roots
}

// Missing says which program is not installed, or returns nil.
func Missing() error {
	for _, name := range []string{"redis-server", "redis-sentinel", "redis-cli"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install redis-server redis-sentinel redis-tools: %w", name, err)
		}
	}
	return nil
}

func begin(t TB, opts []Option) *Server {
	t.Helper()
	s := &Server{t: t, setup: setup{prefix: "anteroom"}}
	for _, o := range opts {
		o(&s.setup)
	}
	if err := Missing(); err != nil {
		if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
			t.Fatalf("%v", err)
		}
		t.Skipf("%v", err)
	}
	if s.Dir = s.setup.dir; s.Dir == "" {
		s.Dir = t.TempDir()
	}
	if s.setup.secure {
		s.CA = filepath.Join(s.Dir, "ca.pem")
		s.Username, s.Password = UserName, userKey
		if err := writeCertificates(s.Dir); err != nil {
			t.Fatalf("making certificates: %v", err)
		}
	}
	t.Cleanup(s.Kill)
	return s
}

// socket is where the unix socket lies: in Dir, or where the path is short enough for the kernel.
func (s *Server) socket() string {
	s.Socket = filepath.Join(s.Dir, "redis.sock")
	if len(s.Socket) > 100 {
		dir, err := os.MkdirTemp("", "redis")
		if err != nil {
			s.t.Fatalf("making a folder for the socket: %v", err)
		}
		s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
		s.Socket = filepath.Join(dir, "s")
	}
	return s.Socket
}

// until asks again and again until the answer is yes.
func (s *Server) until(what string, yes func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !yes(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("redis: waiting for %s in vain\n%s", what, s.logs())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
