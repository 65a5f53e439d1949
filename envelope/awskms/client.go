package awskms

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

const (
	// attempts and firstBackoff bound the retries, attemptTimeout what one of them waits for: a connection that fell silent leaves
	// time for another.
	attempts       = 3
	firstBackoff   = 100 * time.Millisecond
	dialTimeout    = 1500 * time.Millisecond
	attemptTimeout = 2 * time.Second
)

var roleForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)

// connect builds the client. The SDK's own log is off: it can print requests.
func connect(ctx context.Context, cfg Config) (*kms.Client, string, error) {
	region, _, _ := parts(cfg.Key) // checked before
	if cfg.Region != "" {
		region = cfg.Region
	}
	proxy, err := parseURL("proxy", cfg.Proxy)
	if err != nil {
		return nil, "", err
	}
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient(proxy)),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.Backoff = attempts, retry.BackoffDelayerFunc(backoff)
				o.RateLimiter = ratelimit.None // its refusal would hide what KMS said; attempts and time are bounded
			})
		}),
		config.WithLogger(logging.Nop{}), config.WithClientLogMode(0),
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if cfg.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(cfg.Profile))
	}
	settings, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, "", explainSettings(cfg, err)
	}
	if settings.Region == "" {
		return nil, "", errors.New("no region: name the key by its ARN, write `region REGION`, or set AWS_REGION")
	}
	if cfg.Role != "" {
		settings.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(settings), cfg.Role,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "anteroom" }))
	}
	client := kms.NewFromConfig(settings, func(o *kms.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = &cfg.Endpoint
		}
	})
	// The endpoint may have come from the environment or a profile.
	endpoint, err := parseURL("endpoint", aws.ToString(client.Options().BaseEndpoint))
	if err == nil {
		err = checkEndpoint(endpoint)
	}
	return client, settings.Region, err
}

// backoff waits up to 100 ms before the second attempt and up to 200 ms before the third; when many nodes fail at once they do
// not come again at once.
func backoff(attempt int, _ error) (time.Duration, error) {
	return rand.N(firstBackoff << min(max(attempt-1, 0), 3)), nil
}

// explainSettings says what is wrong with the environment or the shared config files, without quoting them.
func explainSettings(cfg Config, err error) error {
	var profile config.SharedConfigProfileNotExistError
	var file config.SharedConfigLoadError
	switch {
	case errors.As(err, &profile):
		return fmt.Errorf("the shared config files have no profile %q: name another with `profile NAME`, or see AWS_PROFILE and AWS_CONFIG_FILE", profile.Profile)
	case errors.As(err, &file):
		return fmt.Errorf("the shared config file %s cannot be read: see that this user may read it and that it is in AWS' form", file.Filename)
	case cfg.Profile != "":
		return fmt.Errorf("the settings of profile %q cannot be used: run `aws sts get-caller-identity --profile %s` as the user that Anteroom runs as", cfg.Profile, cfg.Profile)
	}
	return errors.New("the AWS settings of the environment or of the shared config files cannot be used: run `aws sts get-caller-identity` as the user that Anteroom runs as")
}

// httpClient bounds each step of an attempt. What AWS_CA_BUNDLE says is added by the SDK.
func httpClient(proxy *url.URL) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout, t.ResponseHeaderTimeout = attemptTimeout, attemptTimeout
			t.MaxConnsPerHost, t.MaxIdleConnsPerHost = 64, 8
			if proxy != nil {
				t.Proxy = func(r *http.Request) (*url.URL, error) {
					if near(r.URL.Hostname()) {
						return nil, nil
					}
					return proxy, nil
				}
			}
		})
}

// near are addresses that no proxy reaches for us: this machine's, and those where machines and containers ask for their role.
func near(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip == netip.MustParseAddr("fd00:ec2::254"))
}

// parseURL reads an http or https URL; nil for none. Its errors do not quote: a proxy's URL may hold a password.
func parseURL(what, raw string) (*url.URL, error) {
	if raw == "" {
		return nil, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("the %s is not a URL like https://HOST:PORT", what)
	}
	return u, nil
}

// checkEndpoint refuses a way on which others read the data keys, which KMS sends in the clear inside TLS.
func checkEndpoint(u *url.URL) error {
	switch {
	case u == nil || u.Scheme == "https" && u.User == nil:
		return nil
	case u.User != nil:
		return errors.New("the endpoint's URL has a user in it: credentials come from AWS' own settings")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the endpoint %s is not https: data keys would cross the network in the clear", u.Host)
}
