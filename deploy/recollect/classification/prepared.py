"""A descriptor set with its texts embedded, whatever scoring is asked for: immutable once made, so readers share it."""

from recollect.gateway.errors import InvalidCall, Violation
from retrieval.descriptors.classifier import Classifier, ClassTexts, Scoring
from retrieval.descriptors.descriptor_set import DescriptorSet
from retrieval.encoders.protocol import Floats
from retrieval.errors import EncoderError


class PreparedSet:
    """One revision of a set, or the classes of one call, ready to classify by."""

    def __init__(self, etag: str, descriptors: DescriptorSet, embeddings: Floats, *, logit_scale: float) -> None:
        """`embeddings` [T, d] are those of `descriptors.texts()`, in that order."""
        self.etag = etag
        self.descriptors = descriptors
        self._names = frozenset(descriptors.class_names)
        self._logit_scale = logit_scale
        self._sizes = [len(described.scored) or 1 for described in descriptors.classes]
        self._texts = ClassTexts(embeddings, self._sizes, Scoring.MEAN)
        self._classifiers = {Scoring.MEAN: Classifier(descriptors, self._texts, logit_scale=logit_scale)}

    @property
    def n_texts(self) -> int:
        """How many texts it keeps in memory."""
        return len(self._texts.texts)

    def require_class(self, name: str) -> None:
        """DescriptorError, with the names that come close, where the set has no class `name`."""
        if name not in self._names:
            self.descriptors.index_of(name)

    def classifier(self, scoring: Scoring) -> Classifier:
        """The classifier with that scoring; InvalidCall where the texts do not allow it."""
        found = self._classifiers.get(scoring)
        if found is None:
            try:
                texts = ClassTexts(self._texts.texts, self._sizes, scoring)
            except EncoderError as error:
                raise InvalidCall([Violation(field="scoring", description=str(error))]) from error
            # Two threads that come here at once make the same, and either may stay.
            found = self._classifiers[scoring] = Classifier(self.descriptors, texts, logit_scale=self._logit_scale)
        return found
