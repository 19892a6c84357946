/**
 * The parts of PatternFly that the page uses, each from its own folder: the package as a whole would put
 * all others into the sources of the Debian package.
 */
export {
  Alert,
  AlertActionCloseButton,
  AlertGroup,
} from '@patternfly/react-core/dist/esm/components/Alert';
export { Breadcrumb, BreadcrumbItem } from '@patternfly/react-core/dist/esm/components/Breadcrumb';
export { Button } from '@patternfly/react-core/dist/esm/components/Button';
export {
  Card,
  CardBody,
  CardHeader,
  CardTitle,
} from '@patternfly/react-core/dist/esm/components/Card';
export { Checkbox } from '@patternfly/react-core/dist/esm/components/Checkbox';
export {
  DescriptionList,
  DescriptionListDescription,
  DescriptionListGroup,
  DescriptionListTerm,
} from '@patternfly/react-core/dist/esm/components/DescriptionList';
export {
  Dropdown,
  DropdownItem,
  DropdownList,
} from '@patternfly/react-core/dist/esm/components/Dropdown';
export {
  EmptyState,
  EmptyStateActions,
  EmptyStateBody,
  EmptyStateFooter,
} from '@patternfly/react-core/dist/esm/components/EmptyState';
export { Form, FormGroup } from '@patternfly/react-core/dist/esm/components/Form';
export {
  FormSelect,
  FormSelectOption,
} from '@patternfly/react-core/dist/esm/components/FormSelect';
export { HelperText, HelperTextItem } from '@patternfly/react-core/dist/esm/components/HelperText';
export { Label, LabelGroup } from '@patternfly/react-core/dist/esm/components/Label';
export { MenuToggle } from '@patternfly/react-core/dist/esm/components/MenuToggle';
export {
  Modal,
  ModalBody,
  ModalFooter,
  ModalHeader,
} from '@patternfly/react-core/dist/esm/components/Modal';
export { Nav, NavItem, NavList } from '@patternfly/react-core/dist/esm/components/Nav';
export { Page, PageSection } from '@patternfly/react-core/dist/esm/components/Page';
export { Progress } from '@patternfly/react-core/dist/esm/components/Progress';
export { SearchInput } from '@patternfly/react-core/dist/esm/components/SearchInput';
export { Spinner } from '@patternfly/react-core/dist/esm/components/Spinner';
export { TextInput } from '@patternfly/react-core/dist/esm/components/TextInput';
export { Title } from '@patternfly/react-core/dist/esm/components/Title';
export {
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from '@patternfly/react-core/dist/esm/components/Toolbar';
export { Tooltip } from '@patternfly/react-core/dist/esm/components/Tooltip';
export { Flex, FlexItem } from '@patternfly/react-core/dist/esm/layouts/Flex';
export { Gallery } from '@patternfly/react-core/dist/esm/layouts/Gallery';
export { default as CubesIcon } from '@patternfly/react-icons/dist/esm/icons/cubes-icon';
export { default as EllipsisVIcon } from '@patternfly/react-icons/dist/esm/icons/ellipsis-v-icon';
export { default as ExclamationCircleIcon } from '@patternfly/react-icons/dist/esm/icons/exclamation-circle-icon';
export { default as LockIcon } from '@patternfly/react-icons/dist/esm/icons/lock-icon';
