"""What each method may be called with: the one table of methods and scopes, which a test holds against the contract."""

from collections.abc import Mapping
from enum import StrEnum


class Scope(StrEnum):
    """What a token allows. None includes another: who uploads histories has no need to read them."""

    READ = "read"
    """Ask: scores, recommendations, classifications, searches, histories, and what there is."""
    WRITE = "write"
    """Change histories, delete users, edit descriptor sets."""
    ADMIN = "admin"
    """All of the admin port: build, activate, roll back, remove, and look at what there is."""
    METRICS = "metrics"
    """Read the metrics of the service, on their own port."""


SCOPES: Mapping[str, Scope] = {
    "/recollect_api.v1.Recommender/Score": Scope.READ,
    "/recollect_api.v1.Recommender/Recommend": Scope.READ,
    "/recollect_api.v1.Recommender/ScoreStream": Scope.READ,
    "/recollect_api.v1.Recommender/Explain": Scope.READ,
    "/recollect_api.v1.Histories/Append": Scope.WRITE,
    "/recollect_api.v1.Histories/AppendMany": Scope.WRITE,
    "/recollect_api.v1.Histories/AppendStream": Scope.WRITE,
    "/recollect_api.v1.Histories/Delete": Scope.WRITE,
    "/recollect_api.v1.Histories/List": Scope.READ,
    "/recollect_api.v1.Histories/Stats": Scope.READ,
    "/recollect_api.v1.Classifier/Classify": Scope.READ,
    "/recollect_api.v1.DescriptorSets/Create": Scope.WRITE,
    "/recollect_api.v1.DescriptorSets/Update": Scope.WRITE,
    "/recollect_api.v1.DescriptorSets/Delete": Scope.WRITE,
    "/recollect_api.v1.DescriptorSets/Get": Scope.READ,
    "/recollect_api.v1.DescriptorSets/List": Scope.READ,
    "/recollect_api.v1.ComposedRetrieval/Search": Scope.READ,
    "/recollect_api.v1.ComposedRetrieval/ListGalleries": Scope.READ,
    "/recollect_api.v1.Indexes/Build": Scope.ADMIN,
    "/recollect_api.v1.Indexes/List": Scope.ADMIN,
    "/recollect_api.v1.Indexes/Verify": Scope.ADMIN,
    "/recollect_api.v1.Indexes/Activate": Scope.ADMIN,
    "/recollect_api.v1.Indexes/Rollback": Scope.ADMIN,
    "/recollect_api.v1.Indexes/RemoveUnneeded": Scope.ADMIN,
    "/recollect_api.v1.Models/List": Scope.ADMIN,
    "/recollect_api.v1.Models/Verify": Scope.ADMIN,
    "/recollect_api.v1.Models/Activate": Scope.ADMIN,
    "/recollect_api.v1.Models/Rollback": Scope.ADMIN,
    "/recollect_api.v1.Models/RemoveUnneeded": Scope.ADMIN,
    "/google.longrunning.Operations/ListOperations": Scope.ADMIN,
    "/google.longrunning.Operations/GetOperation": Scope.ADMIN,
    "/google.longrunning.Operations/DeleteOperation": Scope.ADMIN,
    "/google.longrunning.Operations/CancelOperation": Scope.ADMIN,
    "/google.longrunning.Operations/WaitOperation": Scope.ADMIN,
}
"""Scope by method. One that is not here, of our own services, is refused to everybody."""
OPEN_SERVICES = ("/grpc.health.v1.",)
"""Called without a token: a load balancer must be able to ask."""
ANY_TOKEN_SERVICES = ("/grpc.reflection.",)
"""Called with any token: the contract is no secret, and of use to whoever may call."""
