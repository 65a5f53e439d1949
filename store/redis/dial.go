package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	dialTimeout = 2 * time.Second // of one attempt
	idleTimeout = 5 * time.Minute
	connections = 32 // to one server
)

// times are how long a Store waits for an answer. Only tests of what has nothing to do with
// time have others than the usual ones.
type times struct {
	io   time.Duration // of one attempt
	call time.Duration // of a call, however many attempts it makes
	ack  time.Duration // for a replica, after a change
}

// usual: whoever signs in waits for the call, and a store that is slower than this is away. A
// replica that is attached answers within a round trip; one that does not within this time is
// not relied on.
var usual = times{2 * time.Second, 2500 * time.Millisecond, 500 * time.Millisecond}

// client makes the client of the form that is configured. It repeats nothing by itself:
// only run knows what may be repeated.
func (c Config) client(t times) goredis.UniversalClient {
	return goredis.NewUniversalClient(&goredis.UniversalOptions{
		Addrs: c.Addresses, MasterName: c.Master, IsClusterMode: c.Cluster, DB: c.Database,
		Username: c.Username, Password: c.Password,
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		Dialer: c.dial, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1,
		DialTimeout: dialTimeout, ReadTimeout: t.io, WriteTimeout: t.io,
		PoolSize: connections, PoolTimeout: t.io, ConnMaxIdleTime: idleTimeout,
		PipelinePoolSize:         -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// sentinels are clients of the Sentinels, which are asked about replicas.
func (c Config) sentinels(t times) (all []*goredis.SentinelClient) {
	if c.Master == "" {
		return nil
	}
	for _, address := range c.Addresses {
		all = append(all, goredis.NewSentinelClient(&goredis.Options{
			Addr: address, Username: c.SentinelUsername, Password: c.SentinelPassword,
			Dialer: c.dial, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
			MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout, ReadTimeout: t.io, WriteTimeout: t.io,
			PoolSize: 4, PipelinePoolSize: -1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}))
	}
	return all
}

// dial reaches one server. It asks the rule of Check again, because Sentinels and
// Clusters name servers that stand in no configuration: without it a hostile or careless
// Sentinel on this machine could have our password sent anywhere in plain.
func (c Config) dial(ctx context.Context, _, address string) (net.Conn, error) {
	network := "tcp"
	if c.Network == "unix" {
		network = "unix"
	} else if err := c.permitted(address); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if c.TLS == nil {
		return &conn{Conn: raw, raw: raw}, nil
	}
	conf := c.TLS.Clone()
	if conf.ServerName == "" {
		if conf.ServerName, _, err = net.SplitHostPort(address); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	secured := tls.Client(raw, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: raw.RemoteAddr(), Err: err}
	}
	return &conn{Conn: secured, raw: raw}, nil
}

// errGone says that the server had closed a connection before we asked anything on it.
var errGone = errors.New("the server had closed the connection")

// conn looks, before it sends a request, whether the server has closed the connection
// since the last one. After a restart of Redis every pooled connection is dead; without
// the look, the first request on each of them would have an unknown outcome.
type conn struct {
	net.Conn
	raw   net.Conn
	asked atomic.Bool // something was sent since the last answer
}

// Write sends. errGone is only said when nothing of this request was sent.
func (c *conn) Write(b []byte) (int, error) {
	if !c.asked.Load() && gone(c.raw) {
		return 0, errGone
	}
	c.asked.Store(true)
	return c.Conn.Write(b)
}

// Read reads.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.asked.Store(false)
	}
	return n, err
}
