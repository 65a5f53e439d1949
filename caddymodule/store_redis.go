package caddymodule

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// RedisServer says how to reach Redis: one server, the servers of a Cluster, or the Sentinels of a master. All values may
// be placeholders such as {env.REDIS_URL} and {file./run/secrets/redis}.
type RedisServer struct {
	// Address as redis://, rediss:// (TLS) or unix://, with user and password; `?addr=HOST:PORT` adds servers,
	// `?master_name=NAME` makes them Sentinels, `?cluster=true` a Cluster. The other fields add to it.
	URL string `json:"url,omitempty"`
	// Addresses HOST:PORT.
	Addresses []string `json:"addresses,omitempty"`
	// The addresses are those of a Cluster.
	Cluster bool `json:"cluster,omitempty"`
	// The addresses are Sentinels, and this is the name of the master that they watch.
	Sentinel string `json:"sentinel,omitempty"`
	// ACL user and password at the Sentinels.
	SentinelUser     string `json:"sentinel_user,omitempty"`
	SentinelPassword string `json:"sentinel_password,omitempty"`
	// ACL user and password at the servers.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	// Begins every key. Default: anteroom.
	Prefix string `json:"prefix,omitempty"`
	// Certificates that vouch for the servers, a PEM file. Default: the machine's. Turns TLS on.
	CA string `json:"ca,omitempty"`
	// Our certificate and key for the servers, PEM files. Turns TLS on.
	Cert    string `json:"cert,omitempty"`
	CertKey string `json:"cert_key,omitempty"`
	// Take a server that is not on this machine without TLS, or as the user `default`. Warns at every start.
	Insecure bool `json:"insecure,omitempty"`
	// Where the line stands, for messages.
	At string `json:"at,omitempty"`
}

// Redis is the store for more than one node: sessions, revocations and one-time values lie in Redis, sealed with the master
// key that all nodes share.
type Redis struct {
	RedisServer
	conn redis.Config
}

// CaddyModule returns the module's information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.store.redis", New: func() caddy.Module { return new(Redis) }}
}

// UnmarshalCaddyfile reads
//
//	store redis URL
//	store redis {
//		address  HOST:PORT…
//		cluster
//		sentinel MASTER
//		sentinel_user NAME
//		sentinel_password {file./run/secrets/sentinel}
//		user     NAME
//		password {file./run/secrets/redis}
//		prefix   anteroom
//		ca       FILE
//		cert     FILE KEYFILE
//		insecure
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "redis"
	return r.unmarshal(d, nil)
}

// unmarshal reads what follows the word before it: a URL, a block, or both. more takes the lines that are not about the
// server, and says whether a line was its own.
func (r *RedisServer) unmarshal(d *caddyfile.Dispenser, more func(word string) (bool, error)) error {
	r.At = at(d)
	if args := d.RemainingArgs(); len(args) > 1 {
		return d.Errf("redis takes one URL, for example {env.REDIS_URL}, and not %q", strings.Join(args[1:], " "))
	} else if len(args) == 1 {
		r.URL = args[0]
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] {
			return d.Errf("%q stands twice", word)
		}
		seen[word] = true
		if more != nil {
			if took, err := more(word); took || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := r.line(d, word); err != nil {
			return err
		}
	}
	if r.URL == "" && len(r.Addresses) == 0 {
		return d.Errf("redis needs to know the server: write a URL behind it, for example {env.REDIS_URL}, or a line `address HOST:PORT`")
	}
	return nil
}

func (r *RedisServer) line(d *caddyfile.Dispenser, word string) error {
	single := map[string]*string{
		"sentinel": &r.Sentinel, "sentinel_user": &r.SentinelUser, "sentinel_password": &r.SentinelPassword,
		"user": &r.User, "password": &r.Password, "prefix": &r.Prefix, "ca": &r.CA,
	}
	flags := map[string]*bool{"cluster": &r.Cluster, "insecure": &r.Insecure}
	switch {
	case single[word] != nil:
		return oneArg(d, single[word])
	case flags[word] != nil:
		if d.NextArg() {
			return d.Errf("%s takes nothing more, not %q", word, d.Val())
		}
		*flags[word] = true
		return nil
	case word == "address":
		if r.Addresses = d.RemainingArgs(); len(r.Addresses) == 0 {
			return d.Errf("address needs at least one HOST:PORT")
		}
		return nil
	case word == "cert":
		if !d.AllArgs(&r.Cert, &r.CertKey) {
			return d.Errf("cert takes two files: our certificate and its key")
		}
		return nil
	}
	return d.Errf("unrecognized line %q; want one of address, cluster, sentinel, sentinel_user, sentinel_password, user, password, prefix, ca, cert, insecure", word)
}

// config resolves the placeholders, reads the certificates and checks what can be checked without asking the server.
func (r *RedisServer) config(logger *slog.Logger) (redis.Config, error) {
	c, err := r.resolve()
	if err != nil {
		return redis.Config{}, fmt.Errorf("%s: redis: %w", r.where(), err)
	}
	if c.Insecure {
		logger.Warn("`insecure`: what is said to Redis can be read and changed on its way, or Redis' user `default` may do everything; use TLS and an ACL user", "redis", c.Addresses)
	}
	if err := c.Check(); err != nil {
		return redis.Config{}, fmt.Errorf("%s: %w", r.where(), err)
	}
	return c, nil
}

func (r *RedisServer) where() string {
	if r.At == "" {
		return "store"
	}
	return r.At
}

func (r *RedisServer) resolve() (redis.Config, error) {
	repl := caddy.NewReplacer()
	text := map[string]string{
		"url": r.URL, "sentinel": r.Sentinel, "sentinel_user": r.SentinelUser, "sentinel_password": r.SentinelPassword,
		"user": r.User, "password": r.Password, "prefix": r.Prefix,
	}
	for name, value := range text {
		v, err := repl.ReplaceOrErr(value, true, true)
		if err != nil && value != "" {
			return redis.Config{}, fmt.Errorf("%s: %w", name, err)
		}
		text[name] = strings.TrimSpace(v)
	}
	var c redis.Config
	if text["url"] != "" {
		var err error
		if c, err = redis.ParseURL(text["url"]); err != nil {
			return redis.Config{}, err
		}
	}
	for _, a := range r.Addresses {
		v, err := repl.ReplaceOrErr(a, true, true)
		if err != nil {
			return redis.Config{}, fmt.Errorf("address: %w", err)
		}
		c.Addresses = append(c.Addresses, strings.TrimSpace(v))
	}
	c.Cluster, c.Insecure = c.Cluster || r.Cluster, r.Insecure
	for name, target := range map[string]*string{
		"sentinel": &c.Master, "sentinel_user": &c.SentinelUsername, "sentinel_password": &c.SentinelPassword,
		"user": &c.Username, "password": &c.Password, "prefix": &c.Prefix,
	} {
		if text[name] != "" {
			*target = text[name]
		}
	}
	return c, r.secure(&c)
}

// secure adds the certificates of the lines `ca` and `cert`.
func (r *RedisServer) secure(c *redis.Config) error {
	if r.CA == "" && r.Cert == "" {
		return nil
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			return fmt.Errorf("ca: %w", err)
		}
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("ca: %s holds no certificate in PEM", r.CA)
		}
	}
	if r.Cert != "" {
		pair, err := tls.LoadX509KeyPair(r.Cert, r.CertKey)
		if err != nil {
			return fmt.Errorf("cert: %w", err)
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// Provision resolves the configuration. It asks no server.
func (r *Redis) Provision(ctx caddy.Context) (err error) {
	r.conn, err = r.config(ctx.Slogger())
	return err
}

// Key names the servers, for the pool.
func (r *Redis) Key(dir string) string { return "redis " + r.conn.Key() + " " + filepath.Clean(dir) }

// Name leaves the credentials out, which change and are new in each process' names.
func (r *Redis) Name(string) string {
	return fmt.Sprintf("redis %q %q %d %s", slices.Sorted(slices.Values(r.conn.Addresses)), r.conn.Master, r.conn.Database, r.conn.Prefix)
}

// OpenStore connects to the servers.
func (r *Redis) OpenStore(dir string, m masters, _ *slog.Logger) (sealedStore, error) {
	ref, err := takeRedis(r.conn, dir)
	if err != nil {
		return sealedStore{}, err
	}
	client, err := ref.open(func() (redisClient, func() error, error) { return openRedis(r.conn, m) })
	if err != nil {
		return sealedStore{}, errors.Join(err, ref.release())
	}
	if client.master != m.key {
		return sealedStore{}, errors.Join(errMasters, ref.release())
	}
	return sealedStore{&heldRedis{Store: client.Store, ref: ref, client: ref.key}, client.envelope, client.keys, nil}, nil
}

// heldRedis is a store that gives its share of the client back instead of closing it.
type heldRedis struct {
	*redis.Store
	ref    reference[redisClient]
	client string // which connections of the pool
}

// Close gives the share back.
func (h *heldRedis) Close() error { return h.ref.release() }

// takeRedis takes a reference to the client that the store and the certificate storage of one configuration share.
func takeRedis(c redis.Config, dir string) (reference[redisClient], error) {
	return take[redisClient]("redis client " + c.Key() + " " + filepath.Clean(dir))
}

// openRedis connects. The ring of the data keys that seal what is stored lies there too.
func openRedis(c redis.Config, m masters) (redisClient, func() error, error) {
	var client redisClient
	c.Logger = poolLogger("redis")
	c.Unseal = func(ctx context.Context, plain *redis.Plain) (redis.Sealer, error) {
		env, err := m.ring(ctx, (&Redis{conn: c}).Name(""), ringOwn, plain, poolLogger("envelope"))
		if err != nil {
			return nil, fmt.Errorf("the master key of what lies there: %w", err)
		}
		client.envelope, client.keys = env, plain
		return env, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	s, err := redis.Open(ctx, c)
	if err != nil {
		return redisClient{}, nil, err
	}
	client.Store, client.master = s, m.key
	stop := follow(client.envelope)
	return client, func() error { stop(); return s.Close() }, nil
}
