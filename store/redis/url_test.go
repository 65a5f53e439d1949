package redis_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis"
)

// TestParseURL reads the forms that operators write.
func TestParseURL(t *testing.T) {
	for url, want := range map[string]redis.Config{
		"redis://localhost":                          {Addresses: []string{"localhost:6379"}},
		"redis://127.0.0.1:7000/3":                   {Addresses: []string{"127.0.0.1:7000"}, Database: 3},
		"redis://[::1]:7000/":                        {Addresses: []string{"[::1]:7000"}},
		"redis://:secret@localhost":                  {Addresses: []string{"localhost:6379"}, Password: "secret"},
		"redis://me:p%40ss%3A%2F%3F%23@localhost":    {Addresses: []string{"localhost:6379"}, Username: "me", Password: "p@ss:/?#"},
		"redis://a:1?addr=b:2&addr=c:3&cluster=true": {Addresses: []string{"a:1", "b:2", "c:3"}, Cluster: true},
		"redis://a:1?addr=b:2&master_name=mymaster":  {Addresses: []string{"a:1", "b:2"}, Master: "mymaster"},
		"unix:///run/redis.sock":                     {Addresses: []string{"/run/redis.sock"}, Network: "unix"},
		"unix://me:secret@/run/redis.sock?db=2":      {Addresses: []string{"/run/redis.sock"}, Network: "unix", Username: "me", Password: "secret", Database: 2},
	} {
		got, err := redis.ParseURL(url)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v", url, got, err)
		}
	}
	c, err := redis.ParseURL("rediss://me:secret@redis.hospital.example:6380")
	if err != nil || c.TLS == nil || c.TLS.InsecureSkipVerify || c.Check() != nil {
		t.Errorf("rediss: %v, %v", c, err)
	}
	for _, url := range []string{
		"", "localhost:6379", "http://localhost", "redis:localhost", "redis://", "redis://:6379", "redis://localhost:0", "redis://localhost:99999",
		"redis://localhost/x", "redis://localhost/-1", "redis://localhost?db=1", "redis://localhost?tls=off", "redis://localhost?skip_verify=true",
		"redis://localhost?cluster=maybe", "redis://localhost?cluster=true&cluster=true", "redis://a:1?addr=b:2", "redis://a:1?addr=b", "redis://a:1/1?cluster=true",
		"redis://a:1?cluster=true&master_name=m", "redis://user@localhost", "redis://a b", "unix://relative.sock", "unix://", "redis://localhost#x",
	} {
		if c, err := redis.ParseURL(url); err == nil {
			t.Errorf("%s is taken as %v", url, c)
		}
	}
}

// TestPasswordsThatBreakURLs: a password that was not percent-encoded makes a URL that
// cannot be read, or that is read otherwise. No message shows a part of it.
func TestPasswordsThatBreakURLs(t *testing.T) {
	for _, between := range []string{"/", "?", "#", "%", "@", ":", " ", "[", "?x=1&x=", "?addr=", "/1?", "\x00", "\r\n"} {
		url := "redis://anteroom:Tr0ub4dor" + between + "Horse8battery@redis.hospital.example:6379"
		c, err := redis.ParseURL(url)
		said := fmt.Sprint(err)
		if err == nil {
			said = fmt.Sprint(c.Check())
		}
		if strings.Contains(said, "Tr0ub4dor") || strings.Contains(said, "Horse8battery") {
			t.Errorf("%q: the password stands in %q", between, said)
		}
	}
}

// TestKey: what reaches the same data with the same credentials has one key, everything
// else another, and no key shows a secret.
func TestKey(t *testing.T) {
	base := func() redis.Config {
		return redis.Config{Addresses: []string{"a:1", "b:2"}, Cluster: true, Username: "u", Password: "secret-one"}
	}
	same := base()
	same.Addresses, same.Prefix = []string{"b:2", "a:1"}, redis.DefaultPrefix
	if same.Key() != base().Key() {
		t.Errorf("%s\n%s", same.Key(), base().Key())
	}
	keys := map[string]string{base().Key(): "base"}
	for name, change := range map[string]func(*redis.Config){
		"address": func(c *redis.Config) { c.Addresses = c.Addresses[:1] }, "prefix": func(c *redis.Config) { c.Prefix = "x" },
		"user": func(c *redis.Config) { c.Username = "v" }, "password": func(c *redis.Config) { c.Password = "secret-two" },
		"form": func(c *redis.Config) { c.Cluster, c.Master = false, "m" }, "database": func(c *redis.Config) { c.Database = 1 },
		"sentinel password": func(c *redis.Config) { c.SentinelPassword = "secret-one" }, "insecure": func(c *redis.Config) { c.Insecure = true },
	} {
		c := base()
		change(&c)
		if other := keys[c.Key()]; other != "" {
			t.Errorf("%s and %s have one key", name, other)
		}
		keys[c.Key()] = name
		if strings.Contains(c.Key(), "secret-") {
			t.Errorf("%s: the key is %s", name, c.Key())
		}
	}
}

// FuzzParseURL: nothing that is taken lacks an address, and neither a message nor the
// configuration itself shows the password.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"redis://u:password@h:1/2?addr=a:1&cluster=true", "rediss://h", "unix://u:password@/s?db=1", "redis://h?master_name=m", "redis://u:pass/word@h", "redis://u:pa?x=1&x=2@h", "redis://%zz", "redis://[::1]:6379"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, url string) {
		c, err := redis.ParseURL(url)
		if err != nil {
			secret := url
			if _, after, ok := strings.Cut(url, "://"); ok {
				secret = after
			}
			if _, after, ok := strings.Cut(secret, ":"); ok {
				secret = after
			}
			secret, _, _ = strings.Cut(secret, "@")
			if len(secret) > 12 && strings.Contains(err.Error(), secret) && !strings.Contains("redis://USER:PASSWORD@HOST:PORT unix:///run/redis/redis.sock", secret) {
				t.Fatalf("%q: %v", url, err)
			}
			return
		}
		if len(c.Addresses) == 0 || c.Username != "" && c.Password == "" {
			t.Fatalf("%q is taken as %v", url, c)
		}
		shown := strings.NewReplacer(strings.Join(c.Addresses, ","), "", c.Username, "", c.Master, "").Replace(fmt.Sprintf("%v %+v %#v %v", c, c, c, c.Check()))
		if len(c.Password) > 12 && strings.Contains(shown, c.Password) {
			t.Fatalf("%q shows its password", url)
		}
	})
}
