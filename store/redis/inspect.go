package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// probeLife is how long the record stays that shows another node's master key. It is
// written anew at each Open, so that it is never older than a key that was retired.
const probeLife = 30 * 24 * time.Hour

// Rights are the commands that the ACL user needs, in the words of ACL SETUSER. Beside
// them it needs its keys, ~PREFIX:*, and nothing else. The Sentinels need none of it.
const Rights = "-@all +hello +auth +select +info +time +wait +get +set +getdel +del +scan +eval" +
	" +xadd +xrange +xrevrange +xread +xdel +xinfo|stream +xsetid +rename +hget +hgetall +hset +hdel +cluster|slots +cluster|nodes"

// inspect asks each master whether it is fit for us.
func (s *Store) inspect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 4*s.times.call)
	defer cancel()
	var mu sync.Mutex // guards warned
	warned := map[string]bool{}
	err := s.masters(ctx, func(ctx context.Context, node *goredis.Client) error {
		info, err := node.Info(ctx).Result()
		if err != nil {
			return err
		}
		warnings, err := fit(info, s.conf)
		mu.Lock()
		defer mu.Unlock()
		for _, w := range warnings {
			if !warned[w] {
				s.log.Warn(w, "redis", s.conf.name())
			}
			warned[w] = true
		}
		return err
	})
	if err != nil {
		return s.remedy(err)
	}
	if err := s.rights(ctx); err != nil {
		return s.remedy(err)
	}
	return nil
}

// unfit is what a server lacks, in our own words.
type unfit string

func (u unfit) Error() string { return string(u) }

// facts reads INFO.
func facts(info string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		facts[name] = value
	}
	return facts
}

// fit judges a server by its INFO.
func fit(info string, c Config) (warnings []string, err error) {
	facts := facts(info)
	version := facts["redis_version"]
	first, rest, _ := strings.Cut(version, ".")
	major, _ := strconv.Atoi(first)
	switch {
	case version == "":
		return nil, unfit("the server does not say what Redis it is (INFO): is it one?")
	case major < 7:
		return nil, unfit(fmt.Sprintf("the server is Redis %.20q; 7.0 or newer is needed: update it", first+"."+rest))
	case facts["role"] == "slave" || facts["role"] == "replica":
		return nil, unfit("the server is a replica, which takes no writes: name the master, or the Sentinels with the name of their master")
	case facts["cluster_enabled"] == "1" && !c.Cluster:
		return nil, unfit("the server is part of a Cluster: say so (`cluster`, or ?cluster=true in the URL)")
	}
	if p := facts["maxmemory_policy"]; p != "" && p != "noeviction" {
		warnings = append(warnings, "Redis may throw away sessions and revocations when its memory is full: set maxmemory-policy noeviction")
	}
	if facts["aof_enabled"] == "0" {
		warnings = append(warnings, "Redis writes no append-only file: sessions that were signed out come back when it restarts; set appendonly yes and appendfsync always")
	}
	return warnings, nil
}

// rights tries what the ACL user must be allowed to do, on names that do not exist, so
// that a missing right is told at the start and not at the first sign-in.
func (s *Store) rights(ctx context.Context) error {
	value, stream := s.prefix+nameProbe+":none", s.prefix+nameFeed
	tries := [][]any{
		{"GET", value}, {"GETDEL", value}, {"DEL", value}, {"SET", value, "x", "PX", 1},
		{"EVAL", swapScript, 1, value, "no such value", "y", "0"},
		{"XADD", stream + ":none", "NOMKSTREAM", "*", fieldEntry, ""}, {"XDEL", stream + ":none", "1-1"},
		{"XRANGE", stream, "-", "+", "COUNT", 1}, {"XREVRANGE", stream, "+", "-", "COUNT", 1},
		{"XREAD", "COUNT", 1, "STREAMS", stream, "0-0"},
		{"XINFO", "STREAM", stream + ":none"}, {"XSETID", stream + ":none", "1-1"}, {"RENAME", value, value},
		{"HSET", value + ":h", "x", "y"}, {"HGET", value + ":h", "x"}, {"HGETALL", value + ":h"}, {"HDEL", value + ":h", "x"},
		{"SCAN", 0, "MATCH", value, "COUNT", 1}, {"TIME"}, {"WAIT", 0, 1}, {"INFO", "replication"},
	}
	if s.conf.Cluster {
		tries = append(tries, []any{"CLUSTER", "NODES"})
	}
	var missing []string
	for _, args := range tries {
		word := strings.ToLower(args[0].(string))
		key := value // decides which server of a Cluster is asked
		switch {
		case word == "xread":
			key = stream
		case word == "cluster":
			word += "|nodes"
		case word == "xinfo":
			word, key = "xinfo|stream", args[2].(string)
		case len(args) > 1 && word[0] == 'x', len(args) > 1 && word[0] == 'h':
			key = args[1].(string)
		}
		_, err := run(ctx, s, "trying a right", key, again, func(ctx context.Context, c link) (none, error) {
			err := c.Do(ctx, args...).Err()
			var said goredis.Error
			switch {
			case errors.Is(err, goredis.Nil):
				return none{}, nil
			case errors.As(err, &said) && strings.HasPrefix(said.Error(), "NOPERM"):
				return none{}, unfit("NOPERM")
			case errors.As(err, &said) && strings.HasPrefix(said.Error(), "ERR no such key"):
				return none{}, nil // it may
			case errors.As(err, &said) && strings.Contains(said.Error(), "user executing the script"):
				return none{}, nil // what it lacks inside the script is tried by itself
			}
			return none{}, err
		})
		if err != nil && strings.HasSuffix(err.Error(), "NOPERM") {
			missing = append(missing, "+"+word)
		} else if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return unfit(fmt.Sprintf("the user %q may not do all that is needed: ACL SETUSER %s ~%s:* %s", s.conf.user(), s.conf.user(), s.prefix, strings.Join(missing, " ")))
	}
	return nil
}

func (c Config) user() string {
	if c.Username == "" {
		return "default"
	}
	return c.Username
}

// probe looks whether another node has sealed with another master key: with two of them
// no node could read what the other writes, and people would be signed out at each step.
func (s *Store) probe(ctx context.Context) error {
	const doing = "looking for the master key of the other nodes"
	name := s.prefix + nameProbe
	there, err := s.readProbe(ctx, doing, name)
	if err != nil {
		return err
	}
	if there != nil {
		if _, err := s.unseal(ctx, labelProbe+" "+name, there); err != nil {
			return fmt.Errorf("what the other nodes stored was sealed with another master key: give all nodes the same one, or this one a prefix of its own (when the old master key is gone for good: DEL %s)", name)
		}
	}
	sealed, err := s.sealer.Seal(ctx, labelProbe+" "+name, []byte("probe"))
	if err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	_, err = run(ctx, s, doing, name, again, func(ctx context.Context, c link) (none, error) {
		return none{}, c.Set(ctx, name, sealed, probeLife).Err()
	})
	return err
}

// remedy says what to do about an error of the first connection.
func (s *Store) remedy(err error) error {
	var own unfit
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	text := s.conf.clean(err)
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case errors.As(err, &own):
		return errors.New(s.conf.clean(own))
	case errors.As(err, &certificate):
		return fmt.Errorf("%s: use a name that stands in the server's certificate, and name its authority (`ca FILE`)", text)
	case errors.As(err, &record):
		return fmt.Errorf("%s: the server speaks no TLS on that port: use its TLS port, or redis:// on this machine", text)
	case has("WRONGPASS") || has("invalid password"):
		return fmt.Errorf("%s: the server does not take the user %q with this password: compare with ACL LIST", text, s.conf.user())
	case has("NOAUTH"):
		return fmt.Errorf("%s: the server wants a user and a password: name them", text)
	case has("NOPERM"):
		return fmt.Errorf("%s: give the user %q the right", text, s.conf.user())
	case has("cluster support disabled"):
		return fmt.Errorf("%s: leave `cluster` out", text)
	case has("can't parse") || has("invalid reply") || has("unknown command"):
		return fmt.Errorf("%s: what listens there is no Redis 7: correct the address", text)
	case has("refused the connection (its words"):
		return fmt.Errorf("%s: is it Redis 7.0 or newer, with this user and password?", text)
	case errors.Is(err, errGone) || has("EOF") || has("reset by peer"):
		return fmt.Errorf("%s: the server hangs up: does it want TLS (rediss://)?", text)
	case has("connection refused") || has("no such file"):
		return fmt.Errorf("%s: nothing listens there: start Redis or correct the address", text)
	case errors.Is(err, context.DeadlineExceeded) || has("timeout"):
		if s.conf.TLS != nil {
			text += ": does the server speak TLS on that port"
		}
		return fmt.Errorf("%s: no answer in time: is the address right, and the way there open?", text)
	}
	return errors.New(text)
}
