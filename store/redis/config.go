package redis

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultPrefix begins every name in Redis when Config says nothing else.
const DefaultPrefix = "anteroom"

// Sealer encrypts and authenticates under a label: what was sealed under one does not
// open under another. envelope.Envelope is one. A Sealer that has the method Reseal besides,
// see resealer, can have a key condemned while the store is in use.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Config says where Redis is and who we are there. Addresses and one of Sealer and Unseal are required.
type Config struct {
	Addresses []string // HOST:PORT: one server, several of a Cluster, or the Sentinels of Master
	Master    string   // name of the master that the Sentinels watch
	Cluster   bool     // the addresses are of a Cluster
	Network   string   // "" or "tcp", or "unix": then the one address is the path of a socket
	Database  int      // number of the database; a Cluster has only 0

	Username, Password                 string // of the ACL user
	SentinelUsername, SentinelPassword string // at the Sentinels

	TLS      *tls.Config // nil: without TLS
	Insecure bool        // take a server elsewhere without TLS or as the default user; whoever sets it warns

	Prefix string // begins every key; "" is DefaultPrefix
	Sealer Sealer // seals all that is stored
	// Unseal makes the sealer instead, when its keys lie in Redis too: it is called once, after
	// the server was found fit and before anything sealed is read. The Plain may be kept.
	Unseal func(context.Context, *Plain) (Sealer, error)
	Now    func() time.Time
	Logger *slog.Logger
}

// prefixForm leaves out what means something in patterns, in hash tags and in ACL rules.
var prefixForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseURL reads
//
//	redis://USER:PASSWORD@HOST:PORT/DATABASE?addr=HOST:PORT&master_name=NAME&cluster=true
//	rediss://…          the same with TLS
//	unix://USER:PASSWORD@/path/to/socket?db=DATABASE
//
// addr may stand several times. No error repeats the URL or a part of it that could be
// the password.
func ParseURL(s string) (Config, error) {
	u, err := url.Parse(s)
	if err != nil { // the message of package url contains the whole URL
		return Config{}, errors.New("redis: the URL cannot be read: write redis://USER:PASSWORD@HOST:PORT, and percent-encode what is special in the password")
	}
	var c Config
	switch u.Scheme {
	case "redis":
	case "rediss":
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	case "unix":
		c.Network = "unix"
	default:
		return Config{}, errors.New("redis: the URL begins with redis://, rediss:// (TLS) or unix://")
	}
	if u.Opaque != "" || u.Fragment != "" || u.RawFragment != "" || strings.Contains(s, "#") {
		return Config{}, errors.New("redis: the URL holds '#', or lacks '//': write redis://USER:PASSWORD@HOST:PORT, and percent-encode what is special in the password")
	}
	c.Username = u.User.Username()
	c.Password, _ = u.User.Password()
	if err := c.server(u); err != nil {
		return Config{}, err
	}
	if err := c.query(u.RawQuery); err != nil {
		return Config{}, err
	}
	if err := c.shape(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// server reads host and path.
func (c *Config) server(u *url.URL) error {
	if c.Network == "unix" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return errors.New("redis: the URL of a socket names its whole path: unix:///run/redis/redis.sock")
		}
		c.Addresses = []string{u.Path}
		return nil
	}
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "6379"
	}
	c.Addresses = []string{net.JoinHostPort(host, port)}
	path := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	if path == "" {
		return nil
	}
	return c.database(path)
}

func (c *Config) database(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return errors.New("redis: the database in the URL is not a number")
	}
	c.Database = int(n)
	return nil
}

func (c *Config) query(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return errors.New("redis: what follows '?' in the URL cannot be read")
	}
	for name, all := range values {
		if name == "addr" {
			c.Addresses = append(c.Addresses, all...)
			continue
		}
		if len(all) != 1 {
			return errors.New("redis: the URL says something twice that it may say once")
		}
		switch {
		case name == "master_name" && all[0] != "":
			c.Master = all[0]
		case name == "cluster" && (all[0] == "true" || all[0] == "false"):
			c.Cluster = all[0] == "true"
		case name == "db" && c.Network == "unix":
			if err := c.database(all[0]); err != nil {
				return err
			}
		default: // the name may be the rest of a password that holds '?'
			return errors.New("redis: what follows '?' in the URL is not one of addr=HOST:PORT, master_name=NAME, cluster=true; a '?' in the password is written %3F")
		}
	}
	return nil
}

// Check reports what is wrong with the configuration, without asking the server. A
// server on another machine is taken with TLS and an ACL user of our own only (attack
// row 161): the default user may do everything to everybody's keys, and without TLS
// whoever is on the way sees its password and answers in Redis' name.
func (c Config) Check() error {
	if err := c.shape(); err != nil {
		return err
	}
	for _, a := range c.Addresses {
		if err := c.permitted(a); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
	}
	return nil
}

// shape checks what a URL or a Caddyfile can get wrong.
func (c Config) shape() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("redis: no address: name the server as HOST:PORT")
	case c.Network != "" && c.Network != "tcp" && c.Network != "unix":
		return errors.New("redis: the network is tcp or unix")
	case c.Network == "unix" && (len(c.Addresses) != 1 || c.Cluster || c.Master != "" || c.TLS != nil):
		return errors.New("redis: a unix socket is one server, without Cluster, Sentinels and TLS")
	case c.Cluster && c.Master != "":
		return errors.New("redis: either a Cluster or Sentinels, not both")
	case c.Cluster && c.Database != 0:
		return errors.New("redis: a Cluster has no database but 0")
	case c.Database < 0:
		return errors.New("redis: the database is a number from 0 on")
	case len(c.Addresses) > 1 && !c.Cluster && c.Master == "":
		return errors.New("redis: several addresses are those of a Cluster (cluster) or of Sentinels (the name of their master): say which")
	case c.Prefix != "" && !prefixForm.MatchString(c.Prefix):
		return errors.New("redis: the prefix is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	case c.Username != "" && c.Password == "", c.SentinelUsername != "" && c.SentinelPassword == "":
		// Without a password nothing is sent, and the server takes us for the default user.
		return errors.New("redis: a user without a password: give the user one, Redis takes a connection without it for the user default")
	}
	for _, text := range append([]string{c.Master, c.Username, c.SentinelUsername}, c.Addresses...) {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(text) > 255 {
			return errors.New("redis: an address or a name holds control characters or is too long")
		}
	}
	if c.Network == "unix" {
		return nil
	}
	for _, a := range c.Addresses {
		host, port, err := net.SplitHostPort(a)
		number, numberErr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || numberErr != nil || number == 0 || strings.ContainsAny(host, " /@?#\\\"'<>%") {
			return errors.New("redis: an address is not HOST:PORT: write for example redis.hospital.example:6379")
		}
	}
	return nil
}

// permitted is the rule of Check for one address. It is asked again at each dial:
// Sentinels and Clusters name further servers.
func (c Config) permitted(address string) error {
	if c.Insecure || c.Network == "unix" || loopback(address) {
		return nil
	}
	switch {
	case c.TLS == nil:
		return unfit(fmt.Sprintf("%s is not on this machine and would be asked without TLS: use rediss:// (or `ca FILE`); `insecure` takes it as it is", address))
	case c.TLS.InsecureSkipVerify:
		return unfit(fmt.Sprintf("the certificate of %s would not be verified; `insecure` takes it as it is", address))
	case c.Username == "" || c.Username == "default":
		return unfit(fmt.Sprintf("%s is not on this machine and would be asked as the user default, who may do everything: make an ACL user that has the keys %s:* only and name it; `insecure` takes it as it is", address, c.prefix()))
	}
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (c Config) prefix() string {
	if c.Prefix == "" {
		return DefaultPrefix
	}
	return c.Prefix
}

// poolKey is new in each process: what it makes of a password is worth nothing elsewhere.
var poolKey = rand.Text()

// Key is the same for two configurations that reach the same data as the same user with
// the same credentials. It holds no secret.
func (c Config) Key() string {
	mac := hmac.New(sha256.New, []byte(poolKey))
	for _, secret := range []string{c.Password, c.SentinelUsername, c.SentinelPassword} {
		fmt.Fprintf(mac, "%d %s", len(secret), secret)
	}
	scheme := "redis"
	switch {
	case c.TLS != nil:
		scheme = "rediss"
		fmt.Fprintf(mac, "%q %v", c.TLS.ServerName, c.TLS.InsecureSkipVerify)
		for _, pair := range c.TLS.Certificates {
			for _, der := range pair.Certificate {
				mac.Write(der)
			}
		}
	case c.Network == "unix":
		scheme = "unix"
	}
	addresses := slices.Sorted(slices.Values(c.Addresses))
	return fmt.Sprintf("%s://%q@%s/%d master=%q cluster=%v insecure=%v prefix=%s credentials=%x",
		scheme, c.Username, strings.Join(addresses, ","), c.Database, c.Master, c.Cluster, c.Insecure, c.prefix(), mac.Sum(nil)[:8])
}

// String leaves the passwords out.
func (c Config) String() string { return c.Key() }

// GoString leaves the passwords out.
func (c Config) GoString() string { return c.Key() }

// LogValue leaves the passwords out.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.Key()) }

// name is how messages call the server.
func (c Config) name() string {
	switch {
	case c.Master != "":
		return fmt.Sprintf("Redis master %q of the Sentinels %s", c.Master, strings.Join(c.Addresses, ", "))
	case c.Cluster:
		return "Redis Cluster " + strings.Join(c.Addresses, ", ")
	}
	return "Redis at " + strings.Join(c.Addresses, ", ")
}
