package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

const password = "correct-horse-battery"

// TestRow161Config: plain text or the default user on the way to another machine is not
// taken, nor is a certificate that nobody verifies.
func TestRow161Config(t *testing.T) {
	far, near := []string{"redis.hospital.example:6379"}, []string{"127.0.0.1:6379"}
	secure, blind := &tls.Config{MinVersion: tls.VersionTLS12}, &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	for _, c := range []struct {
		name string
		conf redis.Config
		want string // in the error; "" for none
	}{
		{"plain, default user", redis.Config{Addresses: far}, "without TLS"},
		{"plain, own user", redis.Config{Addresses: far, Username: "anteroom", Password: password}, "without TLS"},
		{"TLS, no user", redis.Config{Addresses: far, TLS: secure, Password: password}, "user default"},
		{"TLS, default user", redis.Config{Addresses: far, TLS: secure, Username: "default", Password: password}, "user default"},
		{"TLS, not verified", redis.Config{Addresses: far, TLS: blind, Username: "anteroom", Password: password}, "not be verified"},
		{"TLS, own user", redis.Config{Addresses: far, TLS: secure, Username: "anteroom", Password: password}, ""},
		{"insecure", redis.Config{Addresses: far, Insecure: true}, ""},
		{"one far of several", redis.Config{Addresses: append(near, far...), Cluster: true}, "without TLS"},
		{"far Sentinels", redis.Config{Addresses: far, Master: "m"}, "without TLS"},
		{"all addresses of the machine", redis.Config{Addresses: []string{"0.0.0.0:6379"}}, "without TLS"},
		{"a name that begins like ours", redis.Config{Addresses: []string{"127.0.0.1.attacker.example:6379"}}, "without TLS"},
		{"localhost of somebody", redis.Config{Addresses: []string{"localhost.attacker.example:6379"}}, "without TLS"},
		{"loopback", redis.Config{Addresses: near}, ""},
		{"loopback of IPv6", redis.Config{Addresses: []string{"[::1]:6379"}}, ""},
		{"loopback in another form", redis.Config{Addresses: []string{"[::ffff:127.0.0.1]:6379"}}, ""},
		{"socket", redis.Config{Addresses: []string{"/run/redis.sock"}, Network: "unix"}, ""},
		// go-redis sends no AUTH without a password: we would be the default user unawares.
		{"a user without a password", redis.Config{Addresses: far, TLS: secure, Username: "anteroom"}, "without a password"},
		{"no address", redis.Config{}, "no address"},
		{"several without a form", redis.Config{Addresses: append(near, near...)}, "say which"},
		{"both forms", redis.Config{Addresses: near, Cluster: true, Master: "m"}, "not both"},
		{"prefix with a pattern", redis.Config{Addresses: near, Prefix: "a*"}, "prefix"},
		{"prefix with a hash tag", redis.Config{Addresses: near, Prefix: "{a}"}, "prefix"},
		{"database of a Cluster", redis.Config{Addresses: near, Cluster: true, Database: 1}, "database"},
		{"no port", redis.Config{Addresses: []string{"127.0.0.1"}}, "HOST:PORT"},
		{"line break", redis.Config{Addresses: []string{"127.0.0.1\r\nQUIT:6379"}}, "control characters"},
	} {
		c.conf.Sealer = sealer("x")
		err := c.conf.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if c.want != "" {
			if s, err := redis.Open(t.Context(), c.conf); err == nil {
				_ = s.Close()
				t.Errorf("%s: Open took it", c.name)
			}
		}
	}
}

// TestRow161FarMaster: Sentinels and Clusters on this machine name a server elsewhere.
// Nobody is asked there in plain, so that nobody gets the password.
func TestRow161FarMaster(t *testing.T) {
	for name, form := range map[string]redis.Config{"Sentinel": {Master: "mymaster"}, "Cluster": {Cluster: true}} {
		t.Run(name, func(t *testing.T) {
			address := fake(t, func(args []string) string {
				if strings.EqualFold(args[0], "HELLO") {
					return "-ERR unknown command\r\n"
				}
				switch strings.ToUpper(strings.Join(args[:min(2, len(args))], " ")) {
				case "SENTINEL GET-MASTER-ADDR-BY-NAME":
					return "*2\r\n$9\r\n192.0.2.7\r\n$4\r\n6379\r\n"
				case "SENTINEL SENTINELS":
					return "*0\r\n"
				case "CLUSTER SLOTS":
					return "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n192.0.2.7\r\n:6379\r\n$2\r\nid\r\n"
				}
				return "+OK\r\n"
			})
			c := form
			c.Addresses, c.Password, c.Sealer = []string{address}, password, sealer("x")
			begin := time.Now()
			_, err := redis.Open(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), "192.0.2.7:6379 is not on this machine") || !strings.Contains(err.Error(), "TLS") {
				t.Errorf("error is %v", err)
			}
			if d := time.Since(begin); d > 1900*time.Millisecond { // 2 s is how long a dial takes in vain
				t.Errorf("it took %v: somebody was dialled", d)
			}
		})
	}
}

// fake is a server that speaks the protocol and answers what reply says.
func fake(t *testing.T, reply func(args []string) string) string {
	t.Helper()
	return listen(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			var args []string
			for n := header(r, '*'); n > 0; n-- {
				b := make([]byte, header(r, '$')+2)
				if _, err := io.ReadFull(r, b); err != nil {
					return
				}
				args = append(args, string(b[:len(b)-2]))
			}
			if len(args) == 0 {
				return
			}
			if _, err := io.WriteString(c, reply(args)); err != nil {
				return
			}
		}
	})
}

func header(r *bufio.Reader, kind byte) int {
	line, err := r.ReadString('\n')
	if err != nil || line[0] != kind {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:])) // 0 ends the connection
	return n
}

// listen serves connections until the test ends.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex // guards open and ended
	var open []net.Conn
	ended := false
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if ended {
				_ = c.Close()
			}
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		ended = true
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// old answers like a Redis of that version, which repeats the arguments of a command it
// does not know, the password among them.
func old(version string) func(args []string) string {
	return func(args []string) string {
		switch strings.ToUpper(args[0]) {
		case "HELLO":
			return fmt.Sprintf("-ERR unknown command `HELLO`, with args beginning with: `%s`\r\n", strings.Join(args[1:], "`, `"))
		case "AUTH":
			if len(args) > 2 && version == "5.0.3" {
				return "-ERR wrong number of arguments for 'auth' command, " + args[2] + "\r\n"
			}
			return "+OK\r\n"
		case "INFO":
			info := "# Server\r\nredis_version:" + version + "\r\n"
			return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
		}
		return "+OK\r\n"
	}
}

// TestOpenErrors: each message names the server, says what to do, and never the password.
func TestOpenErrors(t *testing.T) {
	server := forms[0].shared(t)
	plain := redistest.Standalone(t)
	good := func(change func(*redis.Config)) redis.Config {
		c := config(t, server)
		change(&c)
		return c
	}
	local := func(address string) redis.Config {
		return redis.Config{Addresses: []string{address}, Username: "anteroom", Password: password, Sealer: sealer("x")}
	}
	for _, c := range []struct {
		name string
		conf redis.Config
		want []string
	}{
		{"wrong password", good(func(c *redis.Config) { c.Password = password }), []string{"WRONGPASS", "ACL LIST"}},
		{"unknown user", good(func(c *redis.Config) { c.Username, c.Password = "somebody", password }), []string{"WRONGPASS", `"somebody"`}},
		{"no user", good(func(c *redis.Config) { c.Username, c.Password = "", "" }), []string{"NOAUTH", "name them"}},
		{"wrong name", good(func(c *redis.Config) { c.TLS.ServerName = "redis.hospital.example" }), []string{"certificate", "redis.hospital.example", "ca FILE"}},
		{"unknown authority", good(func(c *redis.Config) { c.TLS.RootCAs = nil }), []string{"unknown authority", "ca FILE"}},
		{"plain to a TLS port", good(func(c *redis.Config) { c.TLS = nil }), []string{"rediss://"}},
		{"TLS to a plain port", good(func(c *redis.Config) { c.Addresses = plain.Addresses }), []string{"does the server speak TLS"}},
		{"no Cluster", good(func(c *redis.Config) { c.Cluster = true }), []string{"leave `cluster` out"}},
		{"nobody there", local("127.0.0.1:1"), []string{"connection refused", "start Redis"}},
		{"no Sentinel there", func() redis.Config { c := local("127.0.0.1:1"); c.Master = "m"; return c }(), []string{"connection refused", `"m"`}},
		{"web server", local(listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })), []string{"no Redis"}},
		{"hangs up", local(listen(t, func(net.Conn) {})), []string{"hangs up"}},
		{"says nothing", local(listen(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })), []string{"no answer in time"}},
		{"too old", local(fake(t, old("6.2.14"))), []string{"6.2.14", "7.0 or newer", "update"}},
		{"ancient", local(fake(t, old("5.0.3"))), []string{"7.0 or newer"}},
		{"says no version", local(fake(t, old(""))), []string{"is it one"}},
		{"another master key", func() redis.Config {
			c := config(t, server)
			_ = open(t, c)
			c.Sealer = sealer("another")
			return c
		}(), []string{"another master key", ":probe"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := redis.Open(t.Context(), c.conf)
			if err == nil {
				_ = s.Close()
				t.Fatal("no error")
			}
			for _, want := range append(c.want, c.conf.Addresses[0]) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			for _, secret := range []string{password, server.Password} {
				if strings.Contains(fmt.Sprintf("%v %+v %#v %s", err, c.conf, c.conf, c.conf), secret) {
					t.Errorf("the password stands in %q", err)
				}
			}
		})
	}
}

// TestMissingRights: what the ACL user may not do is told at the start, all at once.
func TestMissingRights(t *testing.T) {
	server := redistest.Standalone(t)
	server.Do("ACL", "SETUSER", "narrow", "on", ">"+password, "~anteroom:*", "-@all", "+hello", "+auth", "+info", "+ping", "+get", "+set", "+del", "+eval", "+scan", "+xrange")
	c := redis.Config{Addresses: server.Addresses, Username: "narrow", Password: password, Sealer: sealer("x")}
	_, err := redis.Open(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "ACL SETUSER narrow ~anteroom:* +getdel +xadd +xdel +xrevrange +xread +xinfo|stream +xsetid +rename +hset +hget +hgetall +hdel +time +wait") {
		t.Errorf("error is %v", err)
	}
	c.Prefix = "other"
	if _, err := redis.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "~other:*") {
		t.Errorf("keys that are not ours: %v", err)
	}
}

// TestRow161LeastRights: what Rights says is enough for everything, in each form, and
// each part of it is needed: a user without one of them is told so, or cannot connect.
func TestRow161LeastRights(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		servers := 1
		if server.Master != "" {
			servers = 2
		} else if server.Cluster {
			servers = 3
		}
		c := config(t, server)
		user := func(name, rights string) redis.Config {
			for i := range servers {
				server.DoAt(i, append([]string{"ACL", "SETUSER", name, "reset", "on", ">" + password, "resetchannels", "~" + c.Prefix + ":*"}, strings.Fields(rights)...)...)
			}
			narrow := c
			narrow.Username, narrow.Password = name, password
			return narrow
		}
		s := open(t, user("least", redis.Rights))
		add(t, s, "entry", time.Time{})
		for doing, call := range calls(t.Context(), s) {
			if err := call(); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
				t.Errorf("%s: %v", doing, err)
			}
		}
		for right := range strings.FieldsSeq(redis.Rights) {
			// Which of these is needed depends on the form, the database and the library.
			if right == "-@all" || right == "+hello" || right == "+auth" || right == "+select" || strings.HasPrefix(right, "+cluster") {
				continue
			}
			s, err := redis.Open(t.Context(), user("less", strings.Replace(redis.Rights+" ", right+" ", "", 1)))
			if err == nil {
				_ = s.Close()
				t.Errorf("without %s: no error", right)
			} else if !strings.Contains(err.Error(), right) && right != "+info" {
				t.Errorf("without %s: %v", right, err)
			}
		}
	})
}

// TestWarnings: a server that evicts, or writes no file, is taken, and the operator told.
func TestWarnings(t *testing.T) {
	server := redistest.Standalone(t, redistest.Conf("maxmemory-policy allkeys-lru", "appendonly no"))
	var log bytes.Buffer
	c := config(t, server)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err := redis.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"maxmemory-policy noeviction", "appendonly yes", server.Addresses[0]} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the operator was told %q; want %q", log.String(), want)
		}
	}
}

// TestSocket: a unix socket needs neither TLS nor a user.
func TestSocket(t *testing.T) {
	server := redistest.Standalone(t)
	c, err := redis.ParseURL("unix://" + server.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c.Sealer = sealer("x")
	s := open(t, c)
	if err := s.Put(context.Background(), "k", []byte("v"), time.Time{}); err != nil {
		t.Error(err)
	}
}
