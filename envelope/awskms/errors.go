package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/anteroom-proxy/anteroom/envelope"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// operation is what a policy calls a call.
type operation string

const (
	opGenerate  operation = "kms:GenerateDataKey"
	opEncrypt   operation = "kms:Encrypt"
	opDecrypt   operation = "kms:Decrypt"
	opReEncrypt operation = "kms:ReEncryptFrom and kms:ReEncryptTo"
	opDescribe  operation = "kms:DescribeKey"
)

// name is the call's, as the API has it.
func (o operation) name() string {
	if o == opReEncrypt {
		return "ReEncrypt"
	}
	return strings.TrimPrefix(string(o), "kms:")
}

// Messages of AWS services are not passed on: some repeat what was sent (a wrong signature is answered with all signed headers,
// a session's token among them). What is taken out of them has a form of its own.
var (
	arnForm     = regexp.MustCompile(`arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[\w+=,.@/-]{1,200}`)
	requestForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	codeForm    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// explain turns what went wrong into one of the three errors of a master, with what an operator can do about it.
func (m *Master) explain(op operation, err error) error {
	text, kind := m.judge(op, err)
	if id := requestID(err); id != "" {
		text += " (request id " + id + ")"
	}
	explained := fmt.Errorf("%w: AWS KMS: %s", kind, text)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", explained, context.Canceled)
	}
	return explained
}

func (m *Master) judge(op operation, err error) (text string, kind error) {
	if err == nil {
		err = errAnswer
	}
	service := deepest(err)
	var api smithy.APIError
	switch {
	case errors.Is(err, context.Canceled):
		return "the caller did not wait for the answer", envelope.ErrUnavailable
	case errors.Is(err, errAnswer):
		return "the answer is not what KMS answers: see that the endpoint is KMS'", envelope.ErrUnavailable
	case errors.As(err, &api) && service == tokenService:
		return m.judgeRole(api)
	case errors.As(err, &api) && service != "KMS":
		return noCredentials, envelope.ErrUnavailable
	case errors.As(err, &api):
		return m.judgeCode(op, api, statusOf(err))
	case strings.Contains(err.Error(), "get credentials") || strings.Contains(err.Error(), "get identity"): // the SDK has no type for it
		return noCredentials, envelope.ErrUnavailable
	}
	if status := statusOf(err); status >= 300 {
		return fmt.Sprintf("the endpoint answers with status %d and not as KMS does: see the endpoint and the proxy", status), envelope.ErrUnavailable
	}
	return m.network(err), envelope.ErrUnavailable
}

const (
	tokenService  = "STS"
	noCredentials = "no credentials could be had: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, write `profile NAME`, or give this machine or container a role; `aws sts get-caller-identity`, run as the user that Anteroom runs as, shows what is found"
)

// judgeCode knows the errors of the KMS API (API reference, "Common Errors" and the errors of each operation).
func (m *Master) judgeCode(op operation, api smithy.APIError, status int) (text string, kind error) {
	switch code := api.ErrorCode(); code {
	case "InvalidCiphertextException":
		return "the wrapped bytes were changed, or belong elsewhere: their encryption context is another one", envelope.ErrSealed
	case "IncorrectKeyException":
		return "the bytes were wrapped under another KMS key: name that key as well, with `former awskms KEY`", envelope.ErrSealed
	case "DisabledException":
		return "the key is disabled: `aws kms enable-key --key-id " + m.key + "`; the event DisableKey in CloudTrail says who disabled it, and when", envelope.ErrRefused
	case "KMSInvalidStateException":
		return m.judgeState(api.ErrorMessage())
	case "NotFoundException":
		return "there is no such key in region " + m.region + ": see its spelling, the region and the account; a key whose deletion is over cannot be had back, nor anything that it wrapped", envelope.ErrRefused
	case "InvalidKeyUsageException":
		return "the key cannot wrap data keys: make a symmetric one, `aws kms create-key` (key spec SYMMETRIC_DEFAULT, usage ENCRYPT_DECRYPT)", envelope.ErrRefused
	case "AccessDeniedException":
		return m.denied(op, api.ErrorMessage()), envelope.ErrRefused
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired", "InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed":
		return "the credentials are no longer, or not yet, good (" + code + "): renew them, and see that this machine's clock is right", envelope.ErrRefused
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature", "NotAuthorized", "OptInRequired":
		return "the credentials are not known to AWS (" + code + "): see which ones are found with `aws sts get-caller-identity`", envelope.ErrRefused
	case "ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException", "RequestLimitExceeded":
		return "KMS takes no more requests of this account for now: raise the quota of cryptographic operations, or find who spends it (Service Quotas, CloudTrail)", envelope.ErrUnavailable
	case "KeyUnavailableException", "DependencyTimeoutException", "KMSInternalException", "InternalFailure", "InternalServerError", "ServiceUnavailable", "ServiceUnavailableException":
		return "KMS cannot do it for now (" + code + "): see AWS' health page; it is tried again", envelope.ErrUnavailable
	default:
		if !codeForm.MatchString(code) {
			code = "no code"
		}
		if status >= 500 || status == 429 || status == 0 {
			return fmt.Sprintf("KMS cannot do it for now (%s, status %d); it is tried again", code, status), envelope.ErrUnavailable
		}
		return fmt.Sprintf("KMS refuses it (%s, status %d): see that the endpoint is KMS' and that the key is a symmetric one", code, status), envelope.ErrRefused
	}
}

// judgeState reads the key's state out of the message, the only place where it stands.
func (m *Master) judgeState(message string) (text string, kind error) {
	message = strings.ToLower(message)
	switch {
	case strings.Contains(message, "pending deletion") || strings.Contains(message, "pendingdeletion") || strings.Contains(message, "pending replica deletion"):
		return "the key is pending deletion; what it wrapped is lost when that is over: `aws kms cancel-key-deletion --key-id " + m.key + "`, then `aws kms enable-key --key-id " + m.key + "`", envelope.ErrRefused
	case strings.Contains(message, "disabled"):
		return m.judgeCode("", &smithy.GenericAPIError{Code: "DisabledException"}, 400)
	case strings.Contains(message, "pending import") || strings.Contains(message, "pendingimport"):
		return "the key's imported material expired or was deleted: import the same material again (`aws kms import-key-material`)", envelope.ErrRefused
	}
	return "the key cannot be used in its present state: `aws kms describe-key --key-id " + m.key + "` shows it; a key in a custom key store needs the store connected", envelope.ErrUnavailable
}

func (m *Master) denied(op operation, message string) string {
	who := arnForm.FindString(message)
	if who == "" {
		who = "the identity that `aws sts get-caller-identity` shows"
	}
	return fmt.Sprintf("%s may not do this: allow it %s in the key's policy or in its own (a condition on the encryption context must let `service` = `anteroom` pass)", who, op)
}

func (m *Master) judgeRole(api smithy.APIError) (text string, kind error) {
	switch api.ErrorCode() {
	case "AccessDenied", "AccessDeniedException":
		who := arnForm.FindString(api.ErrorMessage())
		if who == "" {
			who = "the identity that `aws sts get-caller-identity` shows"
		}
		return fmt.Sprintf("%s may not assume the role %s: allow it sts:AssumeRole, and name it in the role's trust policy", who, m.role), envelope.ErrRefused
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "SignatureDoesNotMatch", "InvalidIdentityToken":
		return "the credentials with which a role is assumed are not good: renew them, and see that this machine's clock is right", envelope.ErrRefused
	}
	return "AWS STS gives no credentials for now; it is tried again", envelope.ErrUnavailable
}

// network describes a failure below HTTP. URLs are left out.
func (m *Master) network(err error) string {
	var certificate *tls.CertificateVerificationError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &certificate):
		return "the certificate of the endpoint is not trusted (" + certificate.Err.Error() + "): name the CA's file in AWS_CA_BUNDLE when a proxy or an endpoint of your own stands there"
	case errors.As(err, &dns):
		return "the name " + dns.Name + " cannot be looked up: see DNS, the region, and whether a proxy is needed (HTTPS_PROXY, or `proxy URL`)"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s: see the network, security groups and the VPC endpoint, and whether a proxy is needed (HTTPS_PROXY, or `proxy URL`)", m.timeout)
	case errors.As(err, &op):
		return op.Error() + ": see the network, and whether a proxy is needed (HTTPS_PROXY, or `proxy URL`)"
	}
	return "no answer that could be read: see the network, the endpoint and the proxy"
}

// deepest is the service at which it went wrong: finding credentials may need other services.
func deepest(err error) (service string) {
	for {
		var op *smithy.OperationError
		if !errors.As(err, &op) {
			return service
		}
		service, err = op.ServiceID, op.Err
	}
}

func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// requestID is what AWS' support asks for.
func requestID(err error) string {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && requestForm.MatchString(response.ServiceRequestID()) {
		return response.ServiceRequestID()
	}
	return ""
}
